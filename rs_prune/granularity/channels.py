"""Whole channels (filters), in coupled groups."""

from __future__ import annotations

from rs_prune.contracts import Plan, Sight
from rs_prune.errors import RsPruneError
from rs_prune.pruning.planner import WINDOW, plan_channels


class Channels:
    """Removes output channels of convolutions.

    Args:
        min_channels: Every group keeps at least so many.
        round_to: Kept channels are a multiple of this; 8 suits many devices.
    """

    def __init__(self, *, min_channels: int = 2, round_to: int = 1) -> None:
        if min_channels < 1 or round_to < 1:
            raise RsPruneError("granularity: min_channels and round_to must be at least 1")
        self.min_channels = min_channels
        self.round_to = round_to

    def __call__(self, sight: Sight) -> Plan:
        groups = sight.graph.groups
        return plan_channels(
            scores=sight.criterion(sight.evidence, groups),
            groups=groups,
            cost=sight.cost,
            scope=sight.scope,
            budget=sight.budget,
            target=sight.keep * sight.dense,
            tolerance=WINDOW * sight.dense,
            min_channels=self.min_channels,
            round_to=self.round_to,
        )
