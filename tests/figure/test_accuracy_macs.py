"""The figure of accuracy against cost on tables that are not as one hopes."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
import pytest

from rs_prune.errors import DoesNotApply
from rs_prune.figure.accuracy_macs import AccuracyMacs
from rs_prune.results.records import read
from rs_prune.results.stats import summarise

RUNS = Path(__file__).parents[2] / "experiments" / "bands_eurosat_ms" / "runs.csv"


def draw(runs: pd.DataFrame, folder: Path) -> list[Path]:
    return AccuracyMacs()(summarise(runs), runs, folder)


@pytest.mark.parametrize("name", ["a$\\foo{$", "$x$", "\\alpha_1^2 50%", "中文 אב 😀"])
def test_names_are_drawn_letter_by_letter(tmp_path: Path, name: str) -> None:
    runs = read(RUNS)
    runs = runs.assign(net=name, criterion=name + runs["criterion"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(path.stat().st_size for path in draw(runs, tmp_path))


def test_runs_without_the_cost_have_no_such_figure(tmp_path: Path) -> None:
    with pytest.raises(DoesNotApply, match="x=macs: no run has a value for it; choose from macs, params, latency_ms"):
        draw(read(RUNS).assign(macs=float("nan")), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_dense_net_of_no_cost_has_no_second_axis(tmp_path: Path) -> None:
    assert len(draw(read(RUNS).assign(dense_macs=0.0), tmp_path)) == 2
