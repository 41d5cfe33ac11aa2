"""Limits the channels, each coupled group counted once of the net."""

from __future__ import annotations

from rs_prune.contracts import Cost
from rs_prune.pruning.cost import checked_share


class Channels:
    """Keeps a share of the channels, each coupled group counted once of the bare dense net.

    Args:
        keep: The share that stays, above 0 and up to 1.
    """

    def __init__(self, *, keep: float) -> None:
        self.keep = checked_share(keep)

    def __call__(self, cost: Cost) -> int:
        return cost.channels
