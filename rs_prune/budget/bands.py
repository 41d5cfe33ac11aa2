"""Limits how many input bands the net reads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rs_prune.contracts import Cost
from rs_prune.errors import RsPruneError


class Bands:
    """Keeps this many of the bands that the dense net reads; indices count as bands.

    Args:
        count: How many stay, at least 1.

    Attributes:
        keep: The share that stays; nan until `of` has said of how many.
    """

    def __init__(self, *, count: int) -> None:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise RsPruneError(f"budget.count={count}: must be a whole number of at least 1, the bands that stay")
        self.count = count
        self.keep = math.nan

    def of(self, bands: Sequence[str]) -> Bands:
        """The budget of a net that reads these bands.

        Raises:
            RsPruneError: When there are fewer than are to stay.
        """
        if self.count > len(bands):
            raise RsPruneError(f"budget.count={self.count}: there are {len(bands)} bands ({', '.join(bands)})")
        told = Bands(count=self.count)
        told.keep = self.count / len(bands)
        return told

    def __call__(self, cost: Cost) -> int:
        return cost.bands
