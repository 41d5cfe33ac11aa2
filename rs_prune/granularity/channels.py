"""Whole channels (filters), in coupled groups."""

from __future__ import annotations

from rs_prune.contracts import Plan, Sight
from rs_prune.pruning.planner import checked_widths, plan_groups


class Channels:
    """Removes output channels of convolutions.

    Args:
        min_channels: Every group keeps at least so many.
        round_to: Kept channels are a multiple of this; 8 suits many devices.
    """

    def __init__(self, *, min_channels: int = 2, round_to: int = 1) -> None:
        self.min_channels, self.round_to = checked_widths(min_channels, round_to)

    def __call__(self, sight: Sight) -> Plan:
        return plan_groups(
            sight, sight.graph.groups, sight.cost, min_channels=self.min_channels, round_to=self.round_to
        )
