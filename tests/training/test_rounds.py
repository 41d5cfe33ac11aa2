"""How budgets and epochs are split among rounds."""

from __future__ import annotations

import pytest

from rs_prune.errors import RsPruneError
from rs_prune.training.rounds import checked_rounds, split_rounds


def test_geometric_rounds_keep_the_same_share_of_what_is_there() -> None:
    assert [share for share, _ in split_rounds(0.125, 3, 3)] == pytest.approx([0.5, 0.25, 0.125])


def test_linear_rounds_take_the_same_share_of_the_dense_net() -> None:
    assert [share for share, _ in split_rounds(0.4, 3, 3, "linear")] == pytest.approx([0.8, 0.6, 0.4])


@pytest.mark.parametrize("spacing", ["geometric", "linear"])
def test_the_last_round_has_the_budget_to_the_bit(spacing: str) -> None:
    assert split_rounds(0.3, 7, 7, spacing)[-1][0] == 0.3
    assert split_rounds(0.3, 5, 1, spacing) == [(0.3, 5)]


def test_later_rounds_take_what_does_not_divide_evenly() -> None:
    assert [epochs for _, epochs in split_rounds(0.5, 10, 4)] == [2, 2, 3, 3]
    assert [epochs for _, epochs in split_rounds(0.5, 9, 3)] == [3, 3, 3]


def test_a_round_without_an_epoch_is_refused() -> None:
    with pytest.raises(
        RsPruneError, match=r"rounds=3.*finetune_epochs=2; set .* to 3 or more, or .*rounds to 2 or less"
    ):
        split_rounds(0.5, 2, 3)
    with pytest.raises(RsPruneError, match=r"finetune_epochs=0; set finetune_epochs to 1 or more$"):
        split_rounds(0.5, 0, 1)


@pytest.mark.parametrize("rounds", [0, -1, 1.5, True, "3"])
def test_rounds_are_whole_numbers(rounds: object) -> None:
    with pytest.raises(RsPruneError, match=r"schedule\.rounds="):
        checked_rounds(rounds)  # type: ignore[arg-type]


def test_spacings_are_named() -> None:
    with pytest.raises(RsPruneError, match=r"schedule\.spacing=cubic: must be geometric or linear"):
        checked_rounds(2, "cubic")
