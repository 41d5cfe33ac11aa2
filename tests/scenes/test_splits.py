"""Splits: stratified, a function of content and seed alone, identical images on one side."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fakes import decode, paint, units
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rs_prune.dataset.folder import Folder
from rs_prune.errors import RsPruneError
from rs_prune.scenes.load import load
from rs_prune.scenes.splits import PARTS, content_digests, in_use, options, split, write_lists

SHARES = {"train": 0.6, "val": 0.1, "test": 0.3}
ROOT = Path(__file__).resolve().parents[2]


def names(scenes, parts):
    return {part: {scenes.files[index] for index in getattr(parts, part)} for part in PARTS}


def contents(digests, parts):
    return {part: {digests[index] for index in getattr(parts, part)} for part in PARTS}


def test_parts_are_disjoint_complete_and_stratified(scene_folder):
    scenes = Folder(root=str(scene_folder))()
    parts = split(scenes, content_digests(scenes), **SHARES, seed=0)
    together = [index for part in PARTS for index in getattr(parts, part)]
    assert sorted(together) == list(range(len(scenes.files)))
    for part, count in (("train", 12), ("val", 2), ("test", 6)):
        labels = [scenes.labels[index] for index in getattr(parts, part)]
        assert [labels.count(label) for label in range(3)] == [count] * 3


def test_a_split_depends_on_the_seed(scene_folder):
    scenes = Folder(root=str(scene_folder))()
    digests = content_digests(scenes)
    first, again, other = (split(scenes, digests, **SHARES, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.test != other.test


def test_file_order_does_not_matter(scene_folder):
    scenes = Folder(root=str(scene_folder))()
    digests = content_digests(scenes)
    order = list(range(len(scenes.files)))
    random.Random(3).shuffle(order)
    mixed = replace(scenes, files=tuple(scenes.files[i] for i in order), labels=tuple(scenes.labels[i] for i in order))
    one = names(scenes, split(scenes, digests, **SHARES, seed=0))
    two = names(mixed, split(mixed, [digests[i] for i in order], **SHARES, seed=0))
    assert one == two


def test_renaming_does_not_matter(scene_folder, tmp_path):
    scenes = Folder(root=str(scene_folder))()
    shutil.copytree(scene_folder, tmp_path / "copy")
    for number, path in enumerate(sorted((tmp_path / "copy").rglob("*.*"), key=lambda path: path.stem[::-1])):
        path.rename(path.with_stem(f"renamed{number:04}"))
    copied = Folder(root=str(tmp_path / "copy"))()
    one, two = content_digests(scenes), content_digests(copied)
    assert contents(one, split(scenes, one, **SHARES, seed=0)) == contents(two, split(copied, two, **SHARES, seed=0))


def test_identical_images_stay_together_and_are_listed(tmp_path):
    folder = paint(tmp_path / "scenes", images=20)
    for number in range(6):
        shutil.copy(folder / "class0" / "000.jpg", folder / "class0" / f"copy{number}.jpg")
    shutil.copy(folder / "class0" / "001.png", folder / "class1" / "same.png")  # even across classes
    scenes = Folder(root=str(folder))()
    digests = content_digests(scenes)
    for seed in range(20):
        parts = split(scenes, digests, **SHARES, seed=seed)
        sides = contents(digests, parts)
        assert not sides["train"] & sides["test"]
        assert not sides["train"] & sides["val"]
        assert not sides["val"] & sides["test"]
        assert sum(len(getattr(parts, part)) for part in PARTS) == len(scenes.files)
    assert ("class0/001.png", "class1/same.png") in parts.duplicates
    assert [len(files) for files in parts.duplicates] == [7, 2]


def write_tiff(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "dtype": "uint8", "count": count, "height": height, "width": width, **options}
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)


@pytest.fixture
def twins(tmp_path):
    """Two classes of ten TIFFs; class a has one scene in three files of other bytes, b a scene of a's."""
    draw = np.random.default_rng(0)
    for label in "ab":
        for number in range(10):
            write_tiff(tmp_path / label / f"{number}.tif", draw.integers(0, 256, (3, 8, 8), np.uint8))
    with rasterio.open(tmp_path / "a" / "0.tif") as scene:
        pixels = scene.read()
    write_tiff(tmp_path / "a" / "deflate.tif", pixels, compress="deflate")
    write_tiff(tmp_path / "a" / "lzw.tif", pixels, compress="lzw")
    with rasterio.open(tmp_path / "a" / "1.tif") as scene:
        write_tiff(tmp_path / "b" / "z.tif", scene.read(), compress="lzw")
    return Folder(root=str(tmp_path))()


def test_identical_pixels_in_other_files_stay_together(twins):
    digests = content_digests(twins)
    assert len(set(digests)) == len(twins.files)
    named = units(twins, digests, decode(twins)[1])
    at = {file: index for index, file in enumerate(twins.files)}
    group = [at[f"a/{name}.tif"] for name in ("0", "deflate", "lzw")]
    assert {named[i] for i in group} == {min(digests[i] for i in group)}
    across = [at["a/1.tif"], at["b/z.tif"]]
    assert {named[i] for i in across} == {min(digests[i] for i in across)}
    alone = set(range(len(named))) - {*group, *across}
    assert all(named[i] == digests[i] for i in alone)
    for seed in range(20):
        parts = split(twins, named, **SHARES, seed=seed)
        for together in (group, across):
            assert sum(any(i in getattr(parts, part) for i in together) for part in PARTS) == 1
    assert parts.duplicates == (("a/0.tif", "a/deflate.tif", "a/lzw.tif"), ("a/1.tif", "b/z.tif"))


def test_images_that_only_look_alike_when_small_are_not_identical(tmp_path):
    """Two checkerboards, one the other's negative, are the same grey at one pixel a side."""
    board = np.indices((8, 8)).sum(0) % 2 * np.uint8(200)
    for label in "ab":
        write_tiff(tmp_path / label / "0.tif", np.stack([board] * 3))
        write_tiff(tmp_path / label / "1.tif", np.stack([200 - board] * 3))
    scenes = Folder(root=str(tmp_path), size=1)()
    _, pixels, _ = decode(scenes)
    assert (pixels == pixels[0]).all()
    digests = content_digests(scenes)
    assert units(scenes, digests, pixels) == digests
    assert len(set(digests)) == 2


def test_a_run_keeps_identical_pixels_in_one_part(twins, tmp_path):
    loaded = load(Folder(root=str(twins.root)), identity="twins", shares=SHARES, seed=0, cache=tmp_path / "cache")
    assert loaded.parts.duplicates == (("a/0.tif", "a/deflate.tif", "a/lzw.tif"), ("a/1.tif", "b/z.tif"))


def presets():
    return sorted(path.stem for path in (ROOT / "conf" / "split").glob("*.yaml"))


def test_presets_are_composed_and_overridden_key_by_key():
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        assert compose("run").split == {**SHARES, "seed": 0, "use": 1.0}
        chosen = compose("run", ["split=train50", "split.seed=3", "split.val=0.1", "split.train=0.4"]).split
    assert chosen == {"train": 0.4, "val": 0.1, "test": 0.5, "seed": 3, "use": 1.0}


@pytest.mark.parametrize("name", [name for name in presets() if name.startswith("train")])
def test_a_preset_carves_a_tenth_of_its_training_share_for_validation(name):
    share = int(name.removeprefix("train")) / 100
    expected = {"train": 0.9 * share, "val": 0.1 * share, "test": 1 - share, "seed": 0, "use": 1}
    assert OmegaConf.load(ROOT / "conf" / "split" / f"{name}.yaml") == pytest.approx(expected)


def test_the_presets_are_the_shares_of_the_literature():
    assert presets() == [
        "default",
        "lists",
        "published70",
        "spatial",
        "train10",
        "train20",
        "train50",
        "train70",
        "train80",
    ]


def test_a_share_of_the_training_part_is_the_same_of_every_class_and_grows(scene_folder, tmp_path):
    def loaded(use):
        return load(
            Folder(root=str(scene_folder)), identity="share", shares=SHARES, seed=0, cache=tmp_path / "cache", use=use
        )

    whole, half, quarter = (loaded(use) for use in (1.0, 0.5, 0.25))
    assert (half.parts.val, half.parts.test) == (whole.parts.val, whole.parts.test)
    assert set(quarter.parts.train) < set(half.parts.train) < set(whole.parts.train)
    of_class = Counter(half.scenes.labels[index] for index in half.parts.train)
    assert set(of_class.values()) == {len(whole.parts.train) // len(whole.scenes.classes) // 2}
    assert half.fingerprint != whole.fingerprint
    for share in (0.0, 7, "all", None):
        with pytest.raises(RsPruneError, match=r"split\.use="):
            in_use({"use": share})
    with pytest.raises(RsPruneError, match=r"split\.block_km=null: must be a number"):
        options({"train": 0.6, "val": 0.1, "test": 0.3, "block_km": None})


def test_a_split_without_validation_data_uses_every_image(scene_folder):
    scenes = Folder(root=str(scene_folder))()
    parts = split(scenes, content_digests(scenes), train=0.7, val=0.0, test=0.3, seed=0)
    assert parts.val == ()
    assert sorted(parts.train + parts.test) == list(range(len(scenes.files)))


def test_too_few_images_name_the_class(tmp_path):
    folder = paint(tmp_path / "scenes", images=20)
    for path in sorted((folder / "class1").iterdir())[2:]:
        path.unlink()
    scenes = Folder(root=str(folder))()
    with pytest.raises(RsPruneError, match="class class1: 2 different images"):
        split(scenes, content_digests(scenes), **SHARES, seed=0)


def test_lists_are_written_whole_and_sorted(scene_folder, tmp_path):
    scenes = Folder(root=str(scene_folder))()
    parts = split(scenes, content_digests(scenes), **SHARES, seed=0)
    write_lists(scenes, parts, tmp_path / "lists")
    for part in PARTS:
        lines = (tmp_path / "lists" / f"{part}.txt").read_text().splitlines()
        assert lines == sorted(names(scenes, parts)[part])
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == ["test.txt", "train.txt", "val.txt"]


@pytest.mark.real
def test_the_published_split_of_eurosat_comes_out_again(real_data, tmp_path):
    from rs_prune.dataset.eurosat import EuroSAT

    scenes = EuroSAT(root=str(real_data / "eurosat_rgb"))()
    assert len(scenes.files) == EuroSAT.source.images
    parts = split(scenes, content_digests(scenes), **SHARES, seed=0)
    assert [len(getattr(parts, part)) for part in PARTS] == [16_200, 2_700, 8_100]
    assert parts.duplicates == ()
    write_lists(scenes, parts, tmp_path)
    for part in PARTS:
        published = ROOT / "data" / "splits" / "eurosat" / "seed0-0.6-0.1-0.3" / f"{part}.txt"
        assert published.read_text() == (tmp_path / f"{part}.txt").read_text()
