"""Pruning in rounds: how much stays after each, and how many epochs it trains."""

from __future__ import annotations

from rs_prune.errors import RsPruneError

SPACINGS = ("geometric", "linear")


def checked_rounds(rounds: int, spacing: str = "geometric") -> int:
    """The option `rounds`, if it and the spacing are what they can be.

    Raises:
        RsPruneError: When there would be no round, or the spacing is unknown.
    """
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise RsPruneError(f"schedule.rounds={rounds}: must be a whole number of at least 1")
    if spacing not in SPACINGS:
        raise RsPruneError(f"schedule.spacing={spacing}: must be geometric or linear")
    return rounds


def split_rounds(keep: float, epochs: int, rounds: int, spacing: str = "geometric") -> list[tuple[float, int]]:
    """Each round's share of the dense net's cost that stays after its cut, and the epochs that follow the cut.

    Args:
        keep: The share that stays in the end.
        epochs: Of all rounds together; what does not divide evenly goes to the last rounds, one epoch each.
        rounds: How many.
        spacing: `geometric` (every round keeps the same share of what is there) or `linear` (of the dense net).

    Raises:
        RsPruneError: When a round would have no epoch.
    """
    if epochs < rounds:
        raise RsPruneError(
            f"schedule.rounds={rounds}: each round needs an epoch, and finetune_epochs={epochs}; set finetune_epochs "
            f"to {rounds} or more" + (f", or schedule.rounds to {epochs} or less" if epochs else "")
        )
    each, left = divmod(epochs, rounds)
    shares = [
        keep ** (number / rounds) if spacing == "geometric" else 1 - (1 - keep) * number / rounds
        for number in range(1, rounds)
    ]
    return [(share, each + (number >= rounds - left)) for number, share in enumerate([*shares, keep])]
