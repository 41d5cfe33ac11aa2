"""The command line as a user meets it: help, sweeps, skips, and one clear line for every mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fakes import TINY, TINY_RUN, paint
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def records(out: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((out / "records").glob("*.json"))]


def complaint(answer) -> str:
    """The one line of an error; no traceback."""
    assert answer.status not in (0, None)
    assert "Traceback" not in answer.err + answer.out
    lines = [line for line in answer.err.splitlines() if line.startswith("rs-prune: ")]
    assert len(lines) == 1, answer.err
    return lines[0]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def test_help_lists_the_verbs(rs_prune):
    answer = rs_prune("--help")
    assert answer.status == 0
    assert all(verb in answer.out for verb in ("run", "report", "fetch"))
    assert "hydra" not in answer.out.lower()


def test_help_of_a_verb_lists_every_option_of_every_group(rs_prune):
    answer = rs_prune("run", "--help")
    assert answer.status == 0
    assert "hydra" not in answer.out.lower()
    groups = (
        "dataset", "model", "attention", "criterion", "granularity", "scope", "budget", "schedule", "loss", "penalty",
        "optimizer",
    )  # fmt: skip
    for group in groups:
        for option in options(group):
            assert f"{group}={option}" in answer.out
    assert "finetune_epochs" in answer.out


def test_cfg_job_shows_the_composed_configuration(rs_prune):
    answer = rs_prune("run", "--cfg", "job", "budget.keep=0.25", "criterion=l2")
    assert answer.status == 0
    assert "keep: 0.25" in answer.out
    assert "rs_prune.criterion.l2.L2" in answer.out


def test_one_run_leaves_a_whole_record_and_is_not_run_again(rs_prune, scene_folder, tmp_path):
    words = ("run", *TINY_RUN, f"dataset.root={scene_folder}", "out=here")
    answer = rs_prune(*words)
    assert answer.status == 0, answer.err
    (record,) = records(tmp_path / "here")
    assert record["status"] == "finished"
    for stage in ("dense", "folded", "raw", "final"):
        assert 0 <= record["accuracy"][stage]["test"] <= 1
    dense, pruned, predicted = (record["cost"][name] for name in ("dense", "pruned", "predicted"))
    assert (pruned["macs"], pruned["params"]) == (predicted["macs"], predicted["params"])
    assert 0.49 * dense["macs"] <= pruned["macs"] <= 0.5 * dense["macs"]
    assert record["checks"]["mask_error"] <= 1e-4
    assert record["checks"]["mean_gate_error"] > 0
    assert len(record["training"]["dense"]) == 2
    assert len(record["training"]["finetune"][0]) == 1
    assert set(record["per_class"]["final"]) == {"class0", "class1", "class2"}
    assert record["plans"][0]["edits"]
    assert record["choices"]["loss"] == "cross_entropy"
    assert record["config"]["dense_loss"] == record["config"]["loss"] == {
        "_target_": "rs_prune.loss.cross_entropy.CrossEntropy", "label_smoothing": 0.1,
    }  # fmt: skip
    assert record["config"]["penalty"] == {"_target_": "rs_prune.penalty.none.NoPenalty"}
    cached = {path.name for path in (tmp_path / "here" / "cache" / "dense").glob("*/*")}
    assert cached == {"dense.json", "early.safetensors", "net.safetensors", "predictions.npz"}
    assert not list((tmp_path / "here").rglob("*.part"))
    assert not (tmp_path / "here" / "work" / record["digest"]).exists()
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "here").rglob("*") if path.is_file()}
    again = rs_prune(*words)
    assert again.status == 0
    assert "epoch" not in again.out
    fresh = {path: path.stat().st_mtime_ns for path in stamps}
    assert fresh == stamps


def test_classes_are_discovered_and_printed_and_statistics_computed_once(rs_prune, scene_folder, tmp_path, caplog):
    from rs_prune.scenes import load

    load._load.cache_clear()
    words = ("run", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", "criterion=l1", "epochs=1")
    assert rs_prune(*words).status == 0
    assert "60 images of 3x32x32, 3 classes (class0, class1, class2)" in caplog.text
    (path,) = (tmp_path / "here" / "cache" / "statistics").glob("*.json")
    kept = json.loads(path.read_text())
    assert kept["images"] == 36
    assert all(0 < value < 1 for value in kept["mean"] + kept["std"])
    card = json.loads(next((tmp_path / "here" / "nets").glob("*/net.json")).read_text())
    assert card["mean"] == kept["mean"]
    load._load.cache_clear()
    stamp = path.stat().st_mtime_ns
    assert rs_prune(*words, "seed=1").status == 0
    assert path.stat().st_mtime_ns == stamp


def test_the_saved_net_scores_what_the_record_says(rs_prune, scene_folder, tmp_path):
    from hydra.core.global_hydra import GlobalHydra

    from rs_prune.dataset.folder import Folder
    from rs_prune.deploy.artifact import load_net
    from rs_prune.scenes.load import load
    from rs_prune.training.datamodule import SceneData
    from rs_prune.training.fit import evaluate

    GlobalHydra.instance().clear()
    assert rs_prune("run", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", "criterion=l1").status == 0
    (record,) = records(tmp_path / "here")
    shares = {"train": 0.6, "val": 0.1, "test": 0.3}
    loaded = load(Folder(root=str(scene_folder)), identity="t", shares=shares, seed=0, cache=tmp_path)
    data = SceneData(
        scenes=loaded.scenes, pixels=loaded.pixels, parts=loaded.parts, mean=loaded.mean, std=loaded.std,
        batch_size=8, seed=0, flips=False, rotations=False,
    )  # fmt: skip
    net = load_net(tmp_path / "here" / "nets" / record["digest"])
    assert evaluate(net, data, "test")[0] == record["accuracy"]["final"]["test"]


def test_a_sweep_trains_each_dense_net_once_and_records_what_makes_no_sense(rs_prune, scene_folder, tmp_path):
    answer = rs_prune(
        "run", "-m", *TINY_RUN, f"dataset.root={scene_folder}", "out=sweep", "attention=none,se",
        "criterion=attention,l1",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    found = {(r["choices"]["attention"], r["choices"]["criterion"]): r for r in records(tmp_path / "sweep")}
    assert {key: record["status"] for key, record in found.items()} == {
        ("none", "attention"): "skipped",
        ("none", "l1"): "finished",
        ("se", "attention"): "finished",
        ("se", "l1"): "finished",
    }
    assert "add attention=se" in found["none", "attention"]["reason"]
    assert "skipped" in answer.out
    assert len(list((tmp_path / "sweep" / "cache" / "dense").glob("*/dense.json"))) == 2
    assert found["se", "l1"]["accuracy"]["dense"] == found["se", "attention"]["accuracy"]["dense"]
    assert found["se", "l1"]["training"]["dense"] == found["se", "attention"]["training"]["dense"]


@pytest.mark.parametrize("schedule", options("schedule"))
def test_every_schedule_ends_at_the_budget_with_a_net_that_can_be_loaded(rs_prune, scene_folder, tmp_path, schedule):
    import torch

    from rs_prune.deploy.artifact import load_net
    from rs_prune.pruning.cost import measure

    words = ("run", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", f"schedule={schedule}", "finetune_epochs=3")
    answer = rs_prune(*words)
    assert answer.status == 0, answer.err
    (record,) = records(tmp_path / "here")
    assert 0.49 <= record["cost"]["pruned"]["macs"] / record["cost"]["dense"]["macs"] <= 0.5
    assert sum(len(history) for history in record["training"]["finetune"]) == (
        5
        if schedule in ("soft", "dynamic", "from_scratch")
        else 3  # those from scratch have the dense net's two epochs too
    )
    net = load_net(tmp_path / "here" / "nets" / record["digest"])
    macs, params = measure(net, torch.zeros(1, 3, 32, 32))
    assert (macs, params) == (record["cost"]["pruned"]["macs"], record["cost"]["pruned"]["params"])


def test_parallel_workers_make_the_same_records_as_one(rs_prune, scene_folder, tmp_path):
    words = ("run", "-m", *TINY_RUN, f"dataset.root={scene_folder}", "criterion=l1,random")
    assert rs_prune(*words, "out=one").status == 0
    answer = rs_prune(*words, "out=two", "launcher=parallel")
    assert answer.status == 0, answer.err
    from rs_prune.contracts import Record

    def lasting(record: dict) -> dict:
        return {key: value for key, value in record.items() if key not in Record.VOLATILE}

    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert [lasting(record) for record in one] == [lasting(record) for record in two]
    assert len(one) == 2


def test_quiet_prints_nothing(rs_prune, scene_folder):
    answer = rs_prune("run", "-q", *TINY_RUN, f"dataset.root={scene_folder}")
    assert answer.status == 0
    assert answer.out == ""
    assert answer.err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("criterion=nonsense",), ("criterion=nonsense", ", ".join(options("criterion")))),
        (("schedule=nonsense",), ("schedule=nonsense", ", ".join(options("schedule")))),
        (("schedule=iterative",), ("schedule.rounds=3", "finetune_epochs=1", "set finetune_epochs to 3 or more")),
        (("schedule=rewind", "finetune_epochs=0"), ("finetune_epochs=0", "set finetune_epochs to 1 or more")),
        (("schedule=gradual", "finetune_epochs=0"), ("finetune_epochs=0", "set finetune_epochs to 1 or more")),
        (("schedule=gradual", "schedule.until=0"), ("schedule.until=0", "above 0")),
        (("schedule=dynamic", "schedule.alpha=2"), ("schedule.alpha=2", "up to 1")),
        (("schedule=soft", "schedule.gradients=some"), ("schedule.gradients=some", "free or masked")),
        (("budget.keep=0",), ("budget.keep=0", "above 0")),
        (("budget.keep=1.5",), ("budget.keep=1.5", "up to 1")),
        (("budget.keep=half",), ("budget.keep=half", "number")),
        (("budget.keep=0.0001",), ("cannot be reached", "least")),
        (("attention=none", "criterion=attention"), ("attention=none", "add attention=se")),
        (("attention=none", "criterion=cap"), ("attention=none", "add attention=se")),
        (("epochs=0",), ("epochs=0", "at least 1")),
        (("observe.images=0",), ("observe.images=0", "at least 1")),
        (("finetune.lr_factor=-1",), ("finetune.lr_factor=-1", "above 0")),
        (("granularity=layers", "schedule=gradual"), ("granularity=layers", "choose a schedule that removes")),
        (("batch_size=many",), ("batch_size=many", "whole number")),
        (("selection=test",), ("selection=test", "val, last or test_as_published")),
        (("split.train=0.9",), ("split", "sum to 1")),
        (("split.train=0.98", "split.val=0.01", "split.test=0.01"), ("class class0", "too few")),
        (("model.name=resnet_nonsense",), ("model.name=resnet_nonsense", "no such net")),
        (("model.name=test_vit",), ("model",)),
        (("no_such_key=1",), ("no_such_key", "no such key")),
        (("trainer=gpu",), ("no GPU",)),
        (("scope=local,global",), ()),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(rs_prune, scene_folder, tmp_path, words, said):
    answer = rs_prune("run", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", *words)
    line = complaint(answer)
    for part in said:
        assert part in line
    assert not (tmp_path / "here" / "records").exists()
    assert not (tmp_path / "here" / "cache" / "dense").exists()


def test_a_mistake_in_one_cell_of_a_sweep_does_not_stop_the_others(rs_prune, scene_folder, tmp_path):
    answer = rs_prune(
        "run", "-m", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", "criterion=l1", "budget.keep=0.0001,0.5"
    )
    assert "budget.keep=0.0001" in complaint(answer)
    assert [record["choices"]["keep"] for record in records(tmp_path / "here")] == [0.5]


def test_missing_images_are_named(rs_prune, monkeypatch, tmp_path):
    monkeypatch.delenv("RS_PRUNE_DATA", raising=False)
    assert "RS_PRUNE_DATA" in complaint(rs_prune("run", "dataset=eurosat"))
    monkeypatch.setenv("RS_PRUNE_DATA", str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere" / "eurosat_rgb") in complaint(rs_prune("run", "dataset=eurosat"))
    (tmp_path / "empty").mkdir()
    assert "no class folders" in complaint(rs_prune("run", *TINY, f"dataset.root={tmp_path / 'empty'}"))
    assert "dataset.root" in complaint(rs_prune("run", *TINY))


def _truncated(folder: Path) -> Path:
    path = folder / "class0" / "000.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    return path


def _zero_bytes(folder: Path) -> Path:
    path = folder / "class1" / "001.png"
    path.write_bytes(b"")
    return path


def _text_tif(folder: Path) -> Path:
    path = folder / "class2" / "notes.tif"
    path.write_text("this is no image")
    return path


def _four_bands(folder: Path) -> Path:
    import numpy as np
    import rasterio

    path = folder / "class2" / "four.tif"
    with rasterio.open(path, "w", driver="GTiff", width=32, height=32, count=4, dtype="uint8") as file:
        file.write(np.zeros((4, 32, 32), np.uint8))
    return path


@pytest.mark.parametrize("damage", [_truncated, _zero_bytes, _text_tif, _four_bands])
def test_a_damaged_file_is_named_or_skipped(rs_prune, tmp_path, damage):
    folder = paint(tmp_path / "scenes")
    path = damage(folder)
    words = ("run", *TINY_RUN, f"dataset.root={folder}", "out=here", "criterion=l1", "epochs=1")
    line = complaint(rs_prune(*words))
    assert str(path) in line
    assert "on_error=skip" in line
    assert not (tmp_path / "here" / "records").exists()
    answer = rs_prune(*words, "dataset.on_error=skip")
    assert answer.status == 0, answer.err
    (record,) = records(tmp_path / "here")
    assert len(record["split"]["skipped"]) == 1
    assert str(path) in record["split"]["skipped"][0]


def test_nan_loss_stops_with_one_line(rs_prune, scene_folder, tmp_path):
    line = complaint(rs_prune("run", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", "optimizer.lr=1e30"))
    assert "optimizer.lr" in line
    assert not (tmp_path / "here" / "records").exists()


def test_a_full_disk_is_one_line_and_nothing_half_written(rs_prune, scene_folder, tmp_path, monkeypatch):
    import errno

    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    line = complaint(rs_prune("run", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", "criterion=l1"))
    assert "no space left" in line
    assert not list((tmp_path / "here").rglob("*.part"))
    assert not list((tmp_path / "here").rglob("*.json"))


def test_traceback_on_request(rs_prune, scene_folder):
    from rs_prune.errors import RsPruneError

    with pytest.raises(RsPruneError):
        rs_prune("run", *TINY_RUN, f"dataset.root={scene_folder}", "budget.keep=7", "--traceback")


def test_a_new_criterion_is_one_file_and_one_yaml(rs_prune, scene_folder, tmp_path, monkeypatch):
    (tmp_path / "mine" / "conf" / "criterion").mkdir(parents=True)
    (tmp_path / "mine" / "my_criterion.py").write_text(
        "import torch\n"
        "class Last:\n"
        "    def __call__(self, evidence, groups):\n"
        "        return {g.name: torch.arange(g.channels).double() for g in groups}\n"
    )
    (tmp_path / "mine" / "conf" / "criterion" / "last.yaml").write_text("# Mine\n_target_: my_criterion.Last\n")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    answer = rs_prune(
        "run", "-m", *TINY_RUN, f"dataset.root={scene_folder}", "attention=none", "criterion=last,l1",
        "budget.keep=0.75,0.5", "out=here", f"hydra.searchpath=[file://{tmp_path / 'mine' / 'conf'}]",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    mine = [record for record in records(tmp_path / "here") if record["choices"]["criterion"] == "last"]
    assert sorted(record["choices"]["keep"] for record in mine) == [0.5, 0.75]
    for record in mine:
        for edit in record["plans"][0]["edits"]:
            assert edit["channels"] == list(range(len(edit["channels"])))
    answer = rs_prune("report", "out=here")
    assert answer.status == 0, answer.err
    table = (tmp_path / "here" / "report" / "table.md").read_text()
    assert sum("| last " in line for line in table.splitlines()) == 2


def test_epochs_chosen_on_test_data_need_a_split_without_validation_and_are_named(rs_prune, scene_folder, tmp_path):
    words = (*TINY_RUN, f"dataset.root={scene_folder}", "out=here", "selection=test_as_published")
    assert "split=published70" in complaint(rs_prune("run", *words))
    assert "selection=val" in complaint(rs_prune("run", *words, "selection=val", "split=published70"))
    assert not (tmp_path / "here" / "records").exists()
    assert rs_prune("run", *words, "split=published70").status == 0
    (record,) = records(tmp_path / "here")
    assert record["choices"]["selection"] == "test_as_published"
    assert record["split"]["val"] == 0
    assert record["accuracy"]["final"]["val"] == record["accuracy"]["final"]["test"]
    best = max(epoch["val_accuracy"] for epoch in record["training"]["finetune"][0])
    assert record["accuracy"]["final"]["test"] == pytest.approx(best)


def test_facts_of_a_cached_dense_net_are_those_of_the_images_observed(rs_prune, scene_folder, tmp_path):
    words = (*TINY_RUN, f"dataset.root={scene_folder}")
    for out, images in (("here", 16), ("here", 8), ("fresh", 8)):
        assert rs_prune("run", *words, f"out={out}", f"observe.images={images}").status == 0
    errors = {
        (out, record["config"]["observe"]["images"]): record["checks"]["mean_gate_error"]
        for out in ("here", "fresh")
        for record in records(tmp_path / out)
    }
    assert errors["here", 8] == errors["fresh", 8] != errors["here", 16]


def test_the_wheel_carries_its_configuration(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    answer = subprocess.run(
        [sys.executable, "-c", "from rs_prune.cli import main; import sys; sys.exit(main())", "run", "--cfg", "job"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "rs_prune.criterion.attention.Attention" in answer.stdout
    assert (site / "rs_prune" / "conf" / "run.yaml").exists()


def test_wandb_offline_keeps_curves_and_results_here_and_sends_nothing(rs_prune, scene_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    answer = rs_prune(
        "run", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", "logger=wandb", "logger.offline=true"
    )
    assert answer.status == 0, answer.err
    (record,) = records(tmp_path / "here")
    runs = list((tmp_path / "here" / "wandb").glob("offline-run-*"))
    kept = b"".join(path.read_bytes() for run in runs for path in run.glob("*.wandb"))
    assert b"val/accuracy" in kept
    assert f"finetune-{record['digest']}".encode() in kept
    assert b"mean_gate_error" in kept


def test_without_being_asked_no_wandb_is_touched(rs_prune, scene_folder, tmp_path, monkeypatch):
    import wandb

    def forbidden(*args, **kwargs):
        raise AssertionError("wandb was started")

    monkeypatch.setattr(wandb, "init", forbidden)
    words = [word for word in TINY_RUN if not word.startswith("logger")]
    assert rs_prune("run", *words, f"dataset.root={scene_folder}", "out=here").status == 0
    assert list((tmp_path / "here" / "logs").rglob("metrics.csv"))
    assert not list(tmp_path.rglob("wandb"))


@pytest.mark.real
def test_a_fast_run_on_real_images(rs_prune, real_data, tmp_path):
    answer = rs_prune(
        "run", "dataset=eurosat", f"dataset.root={real_data / 'eurosat_rgb'}", "debug=fast", "trainer=cpu", "out=here"
    )
    assert answer.status == 0, answer.err
    (record,) = records(tmp_path / "here")
    assert record["choices"]["dataset"] == "eurosat"
    assert record["choices"]["net"] == "resnet_narrow"
    assert record["checks"]["mask_error"] <= 1e-4
    assert record["cost"]["dense"]["params"] == 1_234_822


def test_pictures_in_a_palette_or_grey_are_read_as_rgb(tmp_path):
    from rs_prune.scenes.reading import read

    Image.new("P", (8, 8), 3).save(tmp_path / "palette.png")
    Image.new("L", (8, 8), 9).save(tmp_path / "grey.png")
    assert read(tmp_path / "palette.png").shape == (3, 8, 8)
    assert (read(tmp_path / "grey.png") == 9).all()


def test_a_reader_who_has_seen_enough_is_no_error():
    answer = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m rs_prune.cli run --help | head -1"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert answer.stdout.startswith("rs-prune run: ")


def test_a_run_killed_while_the_dense_net_is_measured_goes_on(rs_prune, scene_folder, monkeypatch):
    """The weights of the early epoch have found their place by then."""
    import rs_prune.run as method

    measure = method.dense_facts
    monkeypatch.setattr(method, "dense_facts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    words = ("run", *TINY_RUN, f"dataset.root={scene_folder}", "schedule=rewind")
    assert rs_prune(*words).status == 130
    monkeypatch.setattr(method, "dense_facts", measure)
    answer = rs_prune(*words)
    assert answer.status == 0, answer.err
