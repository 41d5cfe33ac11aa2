"""Records on disk become rows; what is broken is named."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rs_prune.contracts import Record
from rs_prune.errors import RsPruneError
from rs_prune.results.files import write
from rs_prune.results.records import load, read, runs, skipped

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
DESIGN = [
    "dataset", "net", "attention", "criterion", "granularity", "schedule", "scope", "budget", "keep", "seed",
    "epochs", "finetune_epochs", "selection", "dense_accuracy", "folded_accuracy", "raw_accuracy",
    "recalibrated_accuracy", "accuracy", "dense_params", "params", "dense_macs", "macs", "latency_ms",
    "mask_error", "wall_s",
]  # fmt: skip
CHOICES = {
    "dataset": "eurosat_rgb", "net": "resnet10", "attention": "none", "criterion": "l1",
    "granularity": "channels", "schedule": "one_shot", "scope": "local", "budget": "macs", "keep": 0.5,
    "seed": 3, "epochs": 10, "finetune_epochs": 2, "selection": "val",
}  # fmt: skip
SPARSE = {"nonzero": 120, "sparse_macs": 4000, "size_mb": 1.5, "compressed_mb": 0.75}


def save(folder: Path, name: str = "a", **other: Any) -> Path:
    record = Record(digest=name, status="finished", choices=CHOICES, config={})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(asdict(record) | other))
    return path


def full(folder: Path, name: str = "a", **other: Any) -> Path:
    return save(
        folder,
        name,
        accuracy={
            "dense": {"val": 0.96, "test": 0.95},
            "folded": {"val": 0.5, "test": 0.51},
            "raw": {"val": 0.1, "test": 0.11},
            "final": {"val": 0.93, "test": 1 / 3},
        },
        cost={"dense": {"params": 1000, "macs": 20000}, "pruned": {"params": 300, "macs": 9990, **SPARSE}},
        latency={"dense": {"median_ms": 4.5}, "pruned": {"median_ms": 2.5}},
        checks={"mask_error": 1e-6, "mean_gate_error": 0.25},
        times={"dense": 10.0, "finetune": 2.5},
        training={"macs": {"dense": 77, "finetune": 7}},
        **other,
    )


def test_columns_and_values(tmp_path: Path) -> None:
    full(tmp_path)
    table = runs(load(tmp_path))
    assert list(table)[: len(DESIGN)] == DESIGN
    row = table.iloc[0].to_dict()
    assert math.isnan(row.pop("recalibrated_accuracy"))
    assert {name: row[name] for name in CHOICES} == CHOICES
    assert {name: row[name] for name in row if name not in CHOICES} == {
        "dense_accuracy": 0.95, "folded_accuracy": 0.51, "raw_accuracy": 0.11, "accuracy": 1 / 3,
        "dense_params": 1000, "params": 300, "dense_macs": 20000, "macs": 9990, "latency_ms": 2.5,
        "mask_error": 1e-6, "wall_s": 12.5, "val_accuracy": 0.93, "dense_val_accuracy": 0.96,
        "dense_latency_ms": 4.5, "mean_gate_error": 0.25, **SPARSE, "dense_training_macs": 77,
        "dense_bands": "", "kept_bands": "", "split": "", "variant": "",
        "digest": "a",
    }  # fmt: skip


def test_old_records_give_empty_cells(tmp_path: Path) -> None:
    words = {name: CHOICES[name] for name in ("dataset", "net", "attention", "criterion", "keep")}
    save(tmp_path, "old", choices={**words, "seed": 1, "forgotten": 5}, accuracy=None, added=1)
    full(tmp_path, "new")
    old, new = runs(load(tmp_path)).sort_values("digest", ascending=False).to_dict("records")
    assert math.isnan(old["accuracy"])
    assert old["scope"] == ""
    assert pd.isna(old["epochs"])
    assert new["epochs"] == 10


def test_order_does_not_depend_on_the_files(tmp_path: Path) -> None:
    for name, seed in (("a", 2), ("b", 0), ("c", 1)):
        full(tmp_path, name, choices=CHOICES | {"seed": seed})
    records = load(tmp_path)
    assert list(runs(records)["seed"]) == [0, 1, 2]
    pd.testing.assert_frame_equal(runs(records), runs(records[::-1]))


def test_a_copied_record_counts_once(tmp_path: Path) -> None:
    full(tmp_path).rename(tmp_path / "copy.json")
    full(tmp_path)
    assert len(load(tmp_path)) == 2
    assert len(runs(load(tmp_path))) == 1


def test_a_penalty_tells_runs_of_other_criteria_apart(tmp_path: Path) -> None:
    def config(penalty: str, loss: str) -> dict[str, Any]:
        return {
            "penalty": {"_target_": f"rs_prune.penalty.{penalty}.P"},
            "loss": {"_target_": f"rs_prune.loss.{loss}.L"},
            "dense_loss": {"_target_": "rs_prune.loss.cross_entropy.L"},
        }

    full(tmp_path, "a", config=config("none", "cross_entropy"))
    full(tmp_path, "b", config=config("none", "cross_entropy"), choices=CHOICES | {"criterion": "fpgm"})
    assert set(runs(load(tmp_path))["variant"]) == {""}
    full(tmp_path, "c", config=config("slimming", "focal"), choices=CHOICES | {"criterion": "bn_scale"})
    found = runs(load(tmp_path)).set_index("criterion")["variant"].to_dict()
    plain = "loss=cross_entropy penalty=none"
    assert found == {"l1": plain, "fpgm": plain, "bn_scale": "loss=focal penalty=slimming"}


def test_skipped_are_apart(tmp_path: Path) -> None:
    full(tmp_path)
    save(tmp_path, "s", status="skipped", reason="cap needs gates")
    assert list(runs(load(tmp_path))["digest"]) == ["a"]
    assert skipped(load(tmp_path)) == [("cap needs gates", CHOICES)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"status": "fini', "not a readable record"),
        ("[1, 2]", "no choices"),
        ('{"status": "finished"}', "no choices"),
        ('{"status": "finished", "choices": {"dataset": "d"}}', "lack net, attention, criterion, keep, seed"),
        (json.dumps({"status": "odd", "choices": CHOICES}), "finished or skipped"),
        (json.dumps({"status": "finished", "choices": CHOICES | {"keep": "half"}}), "keep='half'"),
    ],
)
def test_broken_records_are_named(tmp_path: Path, text: str, says: str) -> None:
    full(tmp_path)
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(RsPruneError, match=r"broken\.json") as error:
        load(tmp_path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_drafts_of_others_are_not_read(tmp_path: Path) -> None:
    (tmp_path / ".a.json.123.json").write_text("{")
    assert load(tmp_path) == []
    assert load(tmp_path / "missing") == []


def test_runs_csv_comes_back(tmp_path: Path) -> None:
    full(tmp_path)
    save(tmp_path, "b", choices=CHOICES | {"criterion": "none", "seed": 4})
    table = runs(load(tmp_path))
    table.to_csv(tmp_path / "runs.csv", index=False)
    pd.testing.assert_frame_equal(read(tmp_path / "runs.csv"), table)


def test_runs_csv_with_fewer_and_more_columns(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("dataset,net,attention,criterion,keep,seed,accuracy,mine\nd,n,none,l1,0.5,0,0.9,7\n")
    row = read(path).iloc[0]
    assert (row["attention"], row["accuracy"], row["mine"], row["scope"]) == ("none", 0.9, 7, "")
    assert math.isnan(row["macs"])


HEAD = "dataset,net,attention,criterion,keep,seed,val_accuracy,accuracy,dense_macs,variant"
LINE = "d,n,none,l1,0.5,0,0.9,0.9,100,"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lacks the columns dataset, net"),
        ("a,b\n1,2\n", "is this a runs.csv?"),
        (f"{HEAD}\n", "no runs"),
        (f"{HEAD}\n{LINE}\n{LINE.replace('l1', 'l2')[:-12]}", "line 3 does not end"),
        (f"{HEAD}\n{LINE}\nd,n,none,l2,0.5,0\n", "line 3 has 6 fields where the header has 10"),
        (f"{HEAD}\n{LINE},,\n", "line 2 has 12 fields"),
        (f"{HEAD}\n{LINE.replace('none', '')}\n", "line 2: attention is empty"),
        (f"{HEAD}\n{LINE.replace('0.9,0.9', '0.9,93.5')}\n", "line 2: accuracy=93.5 must be a share from 0 to 1"),
        (f"{HEAD}\n{LINE.replace('0.9,0.9', 'abc,0.9')}\n", "line 2: val_accuracy=abc must be a share"),
        (f"{HEAD}\n{LINE.replace('0.9,0.9', '0.9,inf')}\n", "line 2: accuracy=inf must be"),
        (f"{HEAD}\n{LINE.replace('0.9,0.9', '0.9,nan')}\n", "line 2: accuracy=nan must be"),
        (f"{HEAD}\n{LINE.replace('0.9,0.9', '0.9,')}\n", "accuracy is empty in every line"),
        (f"{HEAD}\n\n{LINE.replace('0.5', '-1')}\n", "line 3: keep=-1 must be the share that stays"),
        (f"{HEAD}\n{LINE.replace('0.5', 'inf')}\n", "line 2: keep=inf must be"),
        (f"{HEAD}\n{LINE.replace('0.5', 'x')}\n", "line 2: keep=x must be"),
        (f"{HEAD}\n{LINE.replace('0.5,0,', '0.5,1.5,')}\n", "line 2: seed=1.5 must be a whole number"),
        (f"{HEAD}\n{LINE.replace('0.5,0,', '0.5,1_0,')}\n", "line 2: seed=1_0 must be a whole number"),
        (f"{HEAD}\n{LINE.replace('100', '0')}\n", "line 2: dense_macs=0 must be a number above 0"),
        (f"{HEAD}\n{LINE}\n\n{LINE}\n", "lines 2 and 4 agree in every choice and in the seed"),
    ],
)
def test_broken_runs_csv_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(RsPruneError, match=r"runs\.csv") as error:
        read(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_runs_csv_that_a_spreadsheet_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(f"\ufeff{HEAD}\r\n{LINE.replace(',0,', ',3.0,')}\r\n".encode())
    assert read(path)["seed"].tolist() == [3]


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*/runs.csv")), ids=lambda path: path.parent.name)
def test_every_committed_runs_csv_is_read(path: Path) -> None:
    assert len(read(path)) == path.read_text().count("\n") - 1


def test_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write(path, b"old")
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert [found.name for found in path.parent.iterdir()] == ["file"]
    (path.parent / "folder").mkdir()
    with pytest.raises(OSError):
        write(path.parent / "folder", b"")
    assert {found.name for found in path.parent.iterdir()} == {"file", "folder"}


def test_the_split_is_told_from_the_configuration(tmp_path: Path) -> None:
    shares = {"train": 0.6, "val": 0.1, "test": 0.3, "seed": 0}
    full(tmp_path, "a", config={"split": shares, "limit": None})
    full(tmp_path, "b", config={"split": shares | {"seed": 1}, "limit": 90}, choices=CHOICES | {"criterion": "l2"})
    assert list(runs(load(tmp_path))["split"]) == ["seed0-0.6-0.1-0.3", "seed1-0.6-0.1-0.3-limit90"]
