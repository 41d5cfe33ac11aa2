"""`rs-prune compare`: how far criteria agree."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import TINY_RUN
from scipy.stats import spearmanr

from rs_prune.compare import MEAN, agreement
from rs_prune.results.heatmap import Panel, heat_maps


def rows(table: pd.DataFrame, a: str, b: str) -> dict[str, tuple[float, float]]:
    mine = table[(table["criterion_a"] == a) & (table["criterion_b"] == b)]
    return {row.group: (row.rho, row.overlap) for row in mine.itertuples()}


def test_agreement_by_hand() -> None:
    scores = {
        "one": {"g": torch.tensor([1.0, 2.0, 3.0, 4.0]), "h": torch.tensor([1.0, 2.0])},
        "two": {"g": torch.tensor([10.0, 30.0, 20.0, 40.0]), "h": torch.tensor([2.0, 1.0])},
        "flat": {"g": torch.ones(4), "h": torch.tensor([0.0, 1.0])},
    }
    table = agreement(scores, 0.5)
    assert list(table) == ["criterion_a", "criterion_b", "group", "rho", "overlap"]
    # g: one exchange of neighbours, rho = 1 - 6 * 2 / (4 * 15) = 0.8; {2, 3} and {1, 3} stay. h: reversed
    found = rows(table, "one", "two")
    assert found["g"] == (pytest.approx(0.8), 0.5)
    assert found["h"] == (pytest.approx(-1), 0)
    assert found[MEAN] == (pytest.approx((4 * 0.8 - 2) / 6), pytest.approx(2 / 6))
    flat = rows(table, "one", "flat")  # all alike: no ranks; the last stay, as in a plan
    assert math.isnan(flat["g"][0])
    assert flat["g"][1] == 1
    assert flat[MEAN] == (pytest.approx(1), pytest.approx(1))


def test_rho_is_spearmans_with_ties_too() -> None:
    draw = np.random.default_rng(0)
    for _ in range(5):
        a, b = draw.integers(0, 6, (2, 30)).astype(float)
        table = agreement({"a": {"g": torch.tensor(a)}, "b": {"g": torch.tensor(b)}}, 0.3)
        assert table["rho"].tolist() == pytest.approx([spearmanr(a, b).statistic] * 2)


def test_pictures_are_the_same_bytes_each_time_and_show_every_number(tmp_path) -> None:
    panel = Panel(values=np.array([[1.0, -0.001], [np.nan, 0.25]]), title="t", label="l", limits=(-1, 1), digits=2)
    first = heat_maps([panel, panel], tmp_path / "a", rows=["r", "s"], columns=["c", "d"], title="x")
    again = heat_maps([panel, panel], tmp_path / "b", rows=["r", "s"], columns=["c", "d"], title="x")
    assert [path.name for path in first] == ["a.png", "a.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    text = first[1].read_text()
    assert all(f"<!-- {value} -->" in text for value in ("1.00", "0.00", "0.25", "r", "d", "x"))
    assert "nan" not in text
    assert "<!-- -0.00 -->" not in text


def test_criteria_are_compared_on_the_net_that_a_run_starts_from(rs_prune, scene_folder, tmp_path):
    words = (*TINY_RUN, f"dataset.root={scene_folder}", "attention=none", "out=here")
    answer = rs_prune("compare", *words, "criteria=[l1,l2,cap,correlation]", "criterion=correlation",
                      "criterion.keep=distinct")  # fmt: skip
    assert answer.status == 0, answer.err
    assert "left out: cap (criterion=cap reads gates" in answer.out
    (dense,) = (tmp_path / "here" / "compare").iterdir()
    (folder,) = dense.iterdir()
    assert {path.name for path in folder.iterdir()} == {"compare.csv", "agreement.png", "agreement.svg"}
    table = pd.read_csv(folder / "compare.csv")
    assert set(table["criterion_a"]) | set(table["criterion_b"]) == {"l1", "l2", "correlation"}
    near = rows(table, "l1", "l2")
    assert near[MEAN][0] > 0.8
    assert f"{near[MEAN][0]:.2f}" in answer.out
    assert len(near) == table["group"].nunique() > 2

    # correlation was asked for with an option of its own: the other way round, a layer's ranks are reversed
    swapped = rs_prune("compare", *words, "criteria=[l1,correlation]")
    assert swapped.status == 0, swapped.err
    (second,) = set(dense.iterdir()) - {folder}  # beside the first
    other = rows(pd.read_csv(second / "compare.csv"), "l1", "correlation")
    alone = "layer1.0.conv1"  # a group of one layer
    assert other[alone][0] == pytest.approx(-rows(table, "l1", "correlation")[alone][0])
    assert other[alone][0] != 0

    assert rs_prune("run", *words, "criterion=l1", "quiet=true").status == 0
    assert [path.name for path in (tmp_path / "here" / "cache" / "dense").glob("[!.]*")] == [dense.name]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("keep=0", "keep=0: must be a number between 0 and 1"),
        ("keep=half", "keep=half: must be"),
        ("criteria=[l1,l3]", "criteria: no criterion l3; the options are attention, "),
        ("criteria=l1", "criteria=l1: must be a list"),
        ("criteria=[l1]", "criteria: fewer than two apply"),
        ("criteria=[l1,cap,lamp] attention=none", "criteria: fewer than two apply"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_trained(word, said, rs_prune, scene_folder, tmp_path):
    answer = rs_prune("compare", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", *word.split())
    assert answer.status == 1
    (line,) = [line for line in answer.err.splitlines() if line.startswith("rs-prune: ")]
    assert said in line
    assert "Traceback" not in answer.err
    assert not list(tmp_path.glob("here/cache/dense/*/dense.json"))
