"""No attention: the plain net."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from rs_prune.contracts import Place


class NoAttention:
    """Gates nothing."""

    def __call__(self, places: Sequence[Place], net: nn.Module) -> list[None]:
        return [None for _ in places]
