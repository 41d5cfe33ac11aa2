"""No attention: the plain net."""

from __future__ import annotations


class NoAttention:
    """Gates nothing."""

    def __call__(self, channels: int) -> None:
        return None
