"""Per-image predictions: kept whole, known by content, refused where they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import TINY_RUN

from rs_prune.contracts import Scenes, Split
from rs_prune.errors import RsPruneError
from rs_prune.results import predictions
from rs_prune.results.predictions import check_same, keep, load
from rs_prune.scenes.load import Loaded

LABELS = (0, 1, 2, 0, 1, 2, 0)
TEST = (1, 2, 4, 6)


def loaded(order: tuple[int, ...] = tuple(range(7)), test: tuple[int, ...] = TEST, classes: int = 3) -> Loaded:
    """Seven images with contents c0 … c6, listed in another order."""
    scenes = Scenes(
        name="d", root=Path(), files=tuple(f"{place}.jpg" for place in range(7)),
        labels=tuple(LABELS[i] for i in order), classes=tuple(map(str, range(classes))), bands=("r",), size=(2, 2),
        scale=1.0, mean=None, std=None,
    )  # fmt: skip
    parts = Split(train=(), val=(), test=tuple(sorted(order.index(i) for i in test)))
    contents = tuple(f"c{(5 * i) % 7}" for i in order)
    pixels = np.zeros((7, 1, 2, 2), np.uint8)
    return Loaded(
        scenes=scenes, pixels=pixels, parts=parts, mean=(0.0,), std=(1.0,), skipped=(), contents=contents,
        fingerprint="f",
    )  # fmt: skip


def said(order: tuple[int, ...], answers: dict[int, int]) -> np.ndarray:
    return np.array([answers[i] for i in order if i in answers])


def test_order_of_the_files_does_not_matter(tmp_path: Path) -> None:
    answers = {1: 1, 2: 0, 4: 1, 6: 2}
    for name, order in (("a", tuple(range(7))), ("b", (6, 3, 1, 0, 5, 2, 4))):
        keep(tmp_path / f"{name}.npz", loaded(order), said(order, answers))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    kept = load(tmp_path / "a.npz")
    # contents in order: c2 (image 6), c3 (2), c5 (1), c6 (4)
    assert kept.labels.tolist() == [0, 2, 1, 1]
    assert kept.stages["final"].tolist() == [2, 0, 1, 1]
    assert kept.right().tolist() == [False, False, True, True]
    assert set(kept.stages) == {"final"}


@pytest.mark.parametrize(("classes", "kind"), [(3, np.uint8), (300, np.uint16)])
def test_compact_and_never_pickled(tmp_path: Path, classes: int, kind: type) -> None:
    answers = np.array([classes - 1, 0, 1, 2])
    keep(tmp_path / "dense.npz", loaded(classes=classes), answers[::-1])
    keep(tmp_path / "a.npz", loaded(classes=classes), answers, tmp_path / "dense.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert {file[name].dtype.type for name in ("labels", "final", "dense")} == {kind}
    kept = load(tmp_path / "a.npz")
    assert sorted(kept.stages["final"]) == sorted(answers)
    assert kept.stages["dense"].tolist() == load(tmp_path / "dense.npz").stages["final"].tolist()


def test_a_cache_of_earlier_versions_has_no_dense_predictions(tmp_path: Path) -> None:
    keep(tmp_path / "a.npz", loaded(), np.zeros(4, int), tmp_path / "missing.npz")
    assert set(load(tmp_path / "a.npz").stages) == {"final"}


def test_other_images_are_refused(tmp_path: Path) -> None:
    keep(tmp_path / "a.npz", loaded(), np.zeros(4, int))
    keep(tmp_path / "b.npz", loaded(test=(0, 2, 4, 6)), np.zeros(4, int))
    one, other = load(tmp_path / "a.npz"), load(tmp_path / "b.npz")
    check_same(one, one, "a", "a")
    with pytest.raises(RsPruneError, match="a and b: predictions of different test images"):
        check_same(one, other, "a", "b")
    with pytest.raises(RsPruneError, match="cannot be paired"):
        keep(tmp_path / "c.npz", loaded(), np.zeros(4, int), tmp_path / "b.npz")
    assert not (tmp_path / "c.npz").exists()


def test_another_label_is_another_image(tmp_path: Path) -> None:
    scenes = loaded()
    relabelled = replace(scenes, scenes=replace(scenes.scenes, labels=(0, 2, 2, 0, 1, 2, 0)))
    keep(tmp_path / "a.npz", scenes, np.zeros(4, int))
    keep(tmp_path / "b.npz", relabelled, np.zeros(4, int))
    assert load(tmp_path / "a.npz").images != load(tmp_path / "b.npz").images


def objects(path: Path) -> None:
    np.savez(path, images=np.array("x"), labels=np.zeros(2, int), final=np.array([{}, {}], dtype=object))


def short(path: Path) -> None:
    np.savez(path, images=np.array("x"), labels=np.zeros(2, int), final=np.zeros(3, int))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_text("{}"),
        lambda path: path.unlink(),
        lambda path: np.savez(path, labels=np.zeros(2, int)),
        lambda path: np.save(path.open("wb"), np.zeros(2)),
        objects,
        short,
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    path = tmp_path / "a.npz"
    keep(path, loaded(), np.zeros(4, int))
    damage(path)
    with pytest.raises(RsPruneError, match=r"a\.npz") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_a_run_keeps_what_its_record_counts_and_none_counts_without(
    rs_prune: Callable[..., Any], scene_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> Path:
        raise OSError(28, "No space left on device", str(path))

    words = ("run", *TINY_RUN, f"dataset.root={scene_folder}", "criterion=l1", "attention=se", "out=here")
    with monkeypatch.context() as patch:
        patch.setattr(predictions, "write", full)
        assert rs_prune(*words).status != 0
    assert not Path("here/records").exists()
    assert not list(Path("here/cache").rglob("dense.json"))
    assert rs_prune(*words).status == 0
    (path,) = Path("here/records").glob("*.json")
    record = json.loads(path.read_text())
    kept = load(Path("here/predictions") / f"{record['digest']}.npz")
    for stage in ("final", "dense"):
        assert kept.right(stage).mean() == record["accuracy"][stage]["test"]
        for label, name in enumerate(record["per_class"][stage]):
            assert kept.right(stage)[kept.labels == label].mean() == record["per_class"][stage][name]
