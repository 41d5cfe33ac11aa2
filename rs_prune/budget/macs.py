"""Limits the multiply-adds of the net."""

from __future__ import annotations

from rs_prune.contracts import Cost
from rs_prune.errors import RsPruneError


class MACs:
    """Keeps a share of the multiply-adds of the bare dense net.

    Args:
        keep: The share that stays, above 0 and up to 1.

    Raises:
        RsPruneError: When the share lies outside.
    """

    def __init__(self, *, keep: float) -> None:
        if not isinstance(keep, (int, float)) or not 0 < keep <= 1:
            raise RsPruneError(f"budget.keep={keep}: must be a number above 0 and up to 1, the share that stays")
        self.keep = keep

    def __call__(self, cost: Cost) -> int:
        return cost.macs
