"""torchgeo's classification sets: by a stand-in with the same interface, and by the real one where it is installed."""

from __future__ import annotations

import hashlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fakes import TINY_RUN, decode, paint
from torchvision.datasets import ImageFolder

from rs_prune.dataset.torchgeo import TorchGeo
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.scenes.splits import PARTS, content_digests, split


class NonGeoClassificationDataset(ImageFolder):
    """torchgeo's base: an ImageFolder."""


class DatasetNotFoundError(FileNotFoundError):
    pass


class Listed(NonGeoClassificationDataset):
    """Parts by lists of names beside the images, as EuroSAT, RESISC45 and UC Merced have them."""

    splits = ("train", "val", "test")

    def __init__(self, root="data", split="train", transforms=None, download=False, checksum=False):
        if not (Path(root) / f"{split}.txt").exists():
            raise DatasetNotFoundError("not found\nin many lines")
        names = set((Path(root) / f"{split}.txt").read_text().split())
        super().__init__(str(Path(root) / "images"), is_valid_file=lambda path: Path(path).name in names)


class Foldered(NonGeoClassificationDataset):
    """Parts as folders, and no test part, as FireRisk has them."""

    splits = ("train", "val")

    def __init__(self, root="data", split="train", transforms=None, download=False, checksum=False):
        super().__init__(str(Path(root) / split))


class TrainTest(Foldered):
    splits = ("train", "test")


class Whole(NonGeoClassificationDataset):
    """No parts, as PatternNet."""

    def __init__(self, root="data", transforms=None, download=False, checksum=False):
        super().__init__(str(Path(root) / "images"))


class Scientific:
    """No classification set."""


@pytest.fixture
def standin(monkeypatch):
    module = types.ModuleType("torchgeo.datasets")
    for kind in (NonGeoClassificationDataset, Listed, Foldered, TrainTest, Whole, Scientific):
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "torchgeo", types.ModuleType("torchgeo"))
    monkeypatch.setitem(sys.modules, "torchgeo.datasets", module)


def listed(root: Path) -> dict[str, str]:
    """60 scenes and their lists: which part each file is in."""
    paint(root / "images")
    lists: dict[str, list[str]] = {part: [] for part in PARTS}
    home = {}
    for path in sorted((root / "images").rglob("*.*")):
        number = int(path.stem)
        part = "train" if number < 12 else "val" if number < 14 else "test"
        renamed = path.rename(path.with_name(f"{path.parent.name}_{path.name}"))
        lists[part].append(renamed.name)
        home[renamed.relative_to(root).as_posix()] = part
    for part, names in lists.items():
        (root / f"{part}.txt").write_text("\n".join(names))
    return home


def by_file(scenes, parts):
    return {scenes.files[index]: part for part in PARTS for index in getattr(parts, part)}


def test_its_lists_are_the_split(standin, tmp_path):
    home = listed(tmp_path)
    scenes = TorchGeo(dataset="Listed", root=str(tmp_path))()
    assert scenes.name == "torchgeo_listed"
    assert scenes.classes == ("class0", "class1", "class2")
    assert scenes.bands == ("red", "green", "blue")
    assert scenes.size == (32, 32)
    assert [scenes.classes[label] for label in scenes.labels] == [file.split("/")[1] for file in scenes.files]
    digests = content_digests(scenes)
    assert by_file(scenes, split(scenes, digests, lists=True, val=0.5, seed=0)) == home
    shares = split(scenes, digests, train=0.6, val=0.1, test=0.3, seed=0)
    assert by_file(scenes, shares) != home  # which of both is said by split=


def test_a_validation_part_is_carved_out_of_training(standin, tmp_path):
    paint(tmp_path / "train", images=20)
    paint(tmp_path / "test", images=10, seed=1)
    scenes = TorchGeo(dataset="TrainTest", root=str(tmp_path))()
    digests = content_digests(scenes)
    parts = split(scenes, digests, lists=True, val=0.1, seed=0)
    assert [len(getattr(parts, part)) for part in PARTS] == [54, 6, 30]
    assert {scenes.files[index].split("/")[0] for index in (*parts.train, *parts.val)} == {"train"}
    assert {scenes.files[index].split("/")[0] for index in parts.test} == {"test"}
    assert [sum(scenes.labels[index] == label for index in parts.val) for label in range(3)] == [2, 2, 2]
    assert parts.val != split(scenes, digests, lists=True, val=0.1, seed=1).val


def test_without_a_validation_share_all_of_training_is_trained_on(standin, tmp_path):
    paint(tmp_path / "train", images=20)
    paint(tmp_path / "test", images=10, seed=1)
    scenes = TorchGeo(dataset="TrainTest", root=str(tmp_path))()
    parts = split(scenes, content_digests(scenes), lists=True, val=0.0, seed=0)
    assert [len(getattr(parts, part)) for part in PARTS] == [60, 0, 30]
    with pytest.raises(RsPruneError, match=r"split\.val=1: must be at least 0 and below 1"):
        split(scenes, content_digests(scenes), lists=True, val=1.0, seed=0)


def test_bands_and_indices_are_chosen_by_name(standin, tmp_path):
    listed(tmp_path)
    kind = TorchGeo(
        dataset="Listed", root=str(tmp_path), bands=["blue", "red"], indices={"redness": ["red", "blue"]}, scale=0.5
    )
    scenes = kind()
    assert (scenes.bands, scenes.reads, scenes.scale) == (("blue", "red", "redness"), (2, 0), 0.5)
    assert set(scenes.parts.values()) == set(PARTS)


def test_what_has_no_lists_or_no_test_part_is_refused_as_published(standin, tmp_path):
    paint(tmp_path / "images")
    whole = TorchGeo(dataset="Whole", root=str(tmp_path))()
    assert len(whole.files) == 60
    with pytest.raises(DoesNotApply, match="torchgeo_whole brings no lists along; choose split=default"):
        split(whole, content_digests(whole), lists=True, val=0.1, seed=0)
    paint(tmp_path / "train")
    paint(tmp_path / "val", images=5, seed=1)
    folders = TorchGeo(dataset="Foldered", root=str(tmp_path))()
    with pytest.raises(DoesNotApply, match="the lists of torchgeo_foldered have no test part; use split=default"):
        split(folders, content_digests(folders), lists=True, val=0.1, seed=0)


def test_identical_images_in_two_published_parts_are_named(standin, tmp_path, caplog):
    listed(tmp_path)
    folder = tmp_path / "images" / "class0"
    (folder / "class0_019.png").write_bytes((folder / "class0_001.png").read_bytes())
    scenes = TorchGeo(dataset="Listed", root=str(tmp_path))()
    parts = split(scenes, content_digests(scenes), lists=True, val=0.1, seed=0)
    assert "identical images in several parts: 1 in train and test" in caplog.text
    assert parts.duplicates == (("images/class0/class0_001.png", "images/class0/class0_019.png"),)


def test_a_run_takes_the_lists(standin, tmp_path, rs_prune):
    import json

    home = listed(tmp_path / "set")
    words = [word for word in TINY_RUN if word != "dataset=folder"]
    words += ["dataset=torchgeo", "dataset.dataset=Listed", f"dataset.root={tmp_path / 'set'}", "split=lists"]
    answer = rs_prune("run", *words, "attention=none", "criterion=l1", "epochs=1", "out=here")
    assert answer.status == 0, answer.err
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "here" / "records").glob("*.json")]
    assert [record["split"][part] for part in PARTS] == [36, 6, 18]
    (lists,) = (tmp_path / "here" / "splits" / "torchgeo_listed").iterdir()
    assert lists.name == "lists-seed0-0.1"
    assert set((lists / "test.txt").read_text().split()) == {file for file, part in home.items() if part == "test"}


def test_mistakes_are_one_line(standin, tmp_path, monkeypatch):
    with pytest.raises(RsPruneError, match=r"dataset\.scale=-1: must be above 0"):
        TorchGeo(dataset="Listed", root=str(tmp_path), scale=-1)
    with pytest.raises(RsPruneError, match="has no such classification data set; it has Foldered, Listed, TrainTest"):
        TorchGeo(dataset="Scientific", root=str(tmp_path))()
    with pytest.raises(RsPruneError, match=r"torchgeo does not find Listed here; set dataset\.root, or dataset\.downl"):
        TorchGeo(dataset="Listed", root=str(tmp_path))()
    with pytest.raises(RsPruneError, match="torchgeo cannot use Whole: ") as caught:
        TorchGeo(dataset="Whole", root=str(tmp_path))()
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "torchgeo.datasets", None)
    with pytest.raises(RsPruneError, match=r"cannot be imported .*; pip install 'rs-prune\[torchgeo\]'"):
        TorchGeo(dataset="EuroSAT", root=str(tmp_path))()


def test_the_real_torchgeo_gives_the_same_scenes(tmp_path):
    """EuroSAT in the layout and with the lists that torchgeo expects: same classes, pixels and parts as torchgeo's."""
    datasets = pytest.importorskip("torchgeo.datasets")
    kind, draw = datasets.EuroSAT, np.random.default_rng(0)
    lists: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in ("AnnualCrop", "Forest", "River"):
        for number in range(6):
            path = tmp_path / kind.base_dir / name / f"{name}_{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            with rasterio.open(path, "w", driver="GTiff", count=13, height=8, width=8, dtype="uint16") as file:
                file.write(draw.integers(0, 9000, (13, 8, 8)).astype(np.uint16))
            lists["train" if number < 3 else "val" if number < 4 else "test"].append(f"{name}_{number}.jpg")
    for part, names in lists.items():
        (tmp_path / kind.split_filenames[part]).write_text("\n".join(names))
    scenes = TorchGeo(dataset="EuroSAT", root=str(tmp_path), scale=1e-4)()
    assert scenes.bands == kind.all_band_names
    assert scenes.classes == ("AnnualCrop", "Forest", "River")
    _, pixels, _ = decode(scenes)
    parts = split(scenes, content_digests(scenes), lists=True, val=0.1, seed=0)

    def key(values, label):
        return hashlib.sha256(np.asarray(values, np.float32).tobytes()).hexdigest(), int(label)

    for part in PARTS:
        theirs = kind(root=str(tmp_path), split=part)
        samples = [theirs[index] for index in range(len(theirs))]
        ours = [key(pixels[index], scenes.labels[index]) for index in getattr(parts, part)]
        assert sorted(ours) == sorted(key(sample["image"].numpy(), sample["label"]) for sample in samples)
