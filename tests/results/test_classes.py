"""Per-class effects and single nets: from records and predictions to tables and the heat map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from scipy import stats
from test_paired import arm, table

from rs_prune import report
from rs_prune.errors import RsPruneError
from rs_prune.results import classes
from rs_prune.results.images import images, read
from rs_prune.results.predictions import Predictions
from rs_prune.results.stats import summarise
from rs_prune.table.images import Images

CONF = Path(__file__).parents[2] / "conf"


def record(criterion: str, keep: float, seed: int, forest: float, river: float, closed: bool = False) -> dict[str, Any]:
    choices = {
        "dataset": "d", "net": "n", "attention": "budgeted" if closed else "none", "criterion": criterion, "keep": keep,
        "seed": seed, "budget": "macs", "selection": "val",
    }  # fmt: skip
    dense = {"forest": 0.98, "river": 0.96}
    accuracy = {"final": {"test": 0.9, "val": 0.9}, "closed" if closed else "dense": {"test": 0.97, "val": 0.97}}
    return {
        "digest": f"{criterion}{keep}{seed}", "status": "finished", "choices": choices, "accuracy": accuracy,
        "per_class": {"dense": dense, "final": {"forest": forest, "river": river}},
        "cost": {"dense": {"macs": 100, "params": 10}, "pruned": {"macs": 100 * keep, "params": 5}},
    }  # fmt: skip


def call(out: Path, *words: str) -> Path:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = [f"out={out}", "quiet=true", "table=[csv,per_class]", "figure=[per_class]", *words]
        cfg = compose("report", given, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    report.main(cfg)
    return Path(cfg.report)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """River is hurt by half a point at 0.5 and by four at 0.25; forest by one point more with every seed at 0.25."""
    found = [record("l1", 0.5, seed, 0.98, 0.955) for seed in (0, 1)]
    found += [record("l1", 0.25, seed, 0.97 - seed / 100, 0.92) for seed in (0, 1)]
    found += [record("l1", 0.1, 0, 0.5, 0.5) | {"per_class": {}}, record("attention", 0.5, 0, 0.9, 0.9, closed=True)]
    (tmp_path / "records").mkdir()
    for number, one in enumerate(found):
        (tmp_path / "records" / f"{number}.json").write_text(json.dumps(one))
    return tmp_path


def test_the_class_that_is_hurt_first_is_on_top(out: Path) -> None:
    folder = call(out)
    lines = [line for line in (folder / "per_class.md").read_text().splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = [(row[3], row[4]) for row in cells]
    assert names == [("l1", "river"), ("l1", "forest")]  # the closed net has no dense one
    half = stats.t.ppf(0.975, 1) * 0.5  # of 1 and 2 points
    assert cells[0][5:] == ["46.4 (25 to 50)", "+0.50", "+4.00"]
    assert cells[1][5:] == ["33.3 (25 to 50)", "+0.00 [+0.00, +0.00]", f"+1.50 [{1.5 - half:+.2f}, {1.5 + half:+.2f}]"]
    assert (folder / "per_class_d_n.png").stat().st_size > 5000
    svg = (folder / "per_class_d_n.svg").read_text()
    assert svg.startswith("<?xml")


def test_a_committed_file_gives_the_same(out: Path, tmp_path: Path) -> None:
    first = call(out)
    again = call(tmp_path / "nothing", f"runs={first / 'runs.csv'}", f"report={tmp_path / 'again'}")
    for name in ("per_class.md", "per_class.csv", "per_class_d_n.png"):
        assert (again / name).read_bytes() == (first / name).read_bytes(), name


def test_a_copied_record_counts_once(out: Path, tmp_path: Path) -> None:
    once = call(out)
    (out / "records" / "copy.json").write_bytes((out / "records" / "2.json").read_bytes())
    for words in ((), (f"runs={once / 'runs.csv'}",)):
        again = call(out, *words, f"report={tmp_path / 'again'}")
        assert (again / "per_class.md").read_bytes() == (once / "per_class.md").read_bytes()
        path = once / "per_class.csv"
        path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")


def test_missing_and_broken_files_are_named(out: Path, tmp_path: Path) -> None:
    runs = call(out) / "runs.csv"
    runs.with_name("per_class.csv").write_text("digest,class\na,b\n")
    for _ in range(2):
        with pytest.raises(RsPruneError, match=r"per_class\.csv: ") as error:
            call(out, f"runs={runs}", f"report={tmp_path / 'again'}")
        assert "\n" not in str(error.value)
        runs.with_name("per_class.csv").unlink(missing_ok=True)
    with pytest.raises(RsPruneError, match="no record has accuracies per class"):
        classes.read(str(tmp_path / "nowhere"), None)
    none = pd.DataFrame([("z", "river", 0.5, 0.4)], columns=list(classes.COLUMNS))
    with pytest.raises(RsPruneError, match="no accuracies per class of these runs"):
        classes.drops(table(arm([0.9])), none)


def said(right: list[int], images: str = "same") -> Predictions:
    labels = np.zeros(len(right), int)
    return Predictions(images, labels, {"final": np.where(np.array(right, bool), 0, 1)})


L1, CAP = [1] * 80 + [0] * 20, [1] * 78 + [0] * 2 + [1] * 12 + [0] * 8


def runs_and_predictions() -> tuple[pd.DataFrame, dict[str, Predictions]]:
    runs = table([*arm([0.80, 0.80]), *arm([0.90, 0.90], criterion="cap")])
    given = {("l1", 0): L1, ("l1", 1): L1, ("cap", 0): CAP, ("cap", 1): CAP[::-1]}
    keys = zip(runs["digest"], runs["criterion"], runs["seed"], strict=True)
    return runs, {digest: said(given[name, int(seed)]) for digest, name, seed in keys}


def test_single_nets_image_by_image() -> None:
    runs, kept = runs_and_predictions()
    found = images(runs, kept, {"criterion": "l1"}).set_index(["criterion", "seed"])
    row = found.loc["cap", "0"]
    assert (row["only_arm"], row["only_baseline"], row["images"]) == (12, 2, 100)
    assert row["p"] == pytest.approx(stats.binomtest(12, 14).pvalue)
    assert row["difference"] == pytest.approx(0.10)
    assert row["low"] < 0.10 < row["high"]
    assert row["p_holm"] >= row["p"]
    low, high = stats.binom.ppf([0.025, 0.975], 100, 0.8) / 100
    alone = found.loc["l1", "0"]
    assert (alone["accuracy_low"], alone["accuracy_high"]) == pytest.approx((low, high), abs=0.0101)
    assert np.isnan(alone["p"])
    both = found.loc["cap", "all"]
    assert both["difference"] == pytest.approx(0.10)
    assert len(found) == 5


def test_runs_of_other_images_are_not_paired() -> None:
    runs, kept = runs_and_predictions()
    digest = runs.query("criterion == 'cap'")["digest"].iloc[0]
    with pytest.raises(RsPruneError, match="predictions of different test images"):
        images(runs, {**kept, digest: said(CAP, "other")}, {"criterion": "l1"})


def test_seeds_with_test_parts_of_their_own_are_not_stacked_image_by_image() -> None:
    runs, kept = runs_and_predictions()
    second = set(runs.query("seed == 1")["digest"])
    kept = {digest: said(list(one.right()), "other" if digest in second else "same") for digest, one in kept.items()}
    assert set(images(runs, kept, {"criterion": "l1"})["seed"]) == {"0", "1"}


def test_files_of_single_nets(tmp_path: Path) -> None:
    runs, kept = runs_and_predictions()
    folder = tmp_path / "predictions"
    folder.mkdir()
    for digest, one in list(kept.items())[:3]:  # the fourth is of an earlier version
        stages = {"final": one.stages["final"].astype(np.uint8), "labels": one.labels.astype(np.uint8)}
        np.savez_compressed(folder / f"{digest}.npz", images=np.array(one.images), **stages)
    assert len(Images(baseline="criterion=l1", predictions=str(folder))(summarise(runs), runs, tmp_path)) == 3
    assert "left out: 1." in (tmp_path / "images.md").read_text()
    with pytest.raises(RsPruneError, match="not those of record"):
        read(folder, runs.assign(accuracy=0.5), "key")
    with pytest.raises(RsPruneError, match=r"key=.*nowhere: no predictions of any"):
        read(tmp_path / "nowhere", runs, "key")
