"""Limits the parameters of the net."""

from __future__ import annotations

from rs_prune.contracts import Cost
from rs_prune.pruning.cost import checked_share


class Params:
    """Keeps a share of the parameters of the bare dense net.

    Args:
        keep: The share that stays, above 0 and up to 1.
    """

    def __init__(self, *, keep: float) -> None:
        self.keep = checked_share(keep)

    def __call__(self, cost: Cost) -> int:
        return cost.params
