"""Splits: stratified, a function of content and seed alone, identical images on one side."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import paint

from rs_prune.dataset.folder import Folder
from rs_prune.errors import RsPruneError
from rs_prune.scenes.splits import PARTS, content_digests, split, write_lists

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
