"""Every declared data set, on generated files in its distributed layout: found, fetched, decoded and split."""

from __future__ import annotations

import hashlib
import importlib
import logging
import random
import re
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from fakes import decode, units
from omegaconf import OmegaConf
from torchvision.io import write_jpeg

from rs_prune import fetch
from rs_prune.build import build
from rs_prune.contracts import Source
from rs_prune.errors import RsPruneError
from rs_prune.scenes.archive import unpack
from rs_prune.scenes.declared import Declared
from rs_prune.scenes.layout import plain
from rs_prune.scenes.splits import PARTS, content_digests, split

ROOT = Path(__file__).parents[2]
EACH = 4
LAYOUTS = {
    "aid": "AID/{c}/{low}_{n}.jpg",
    "eurosat": "2750/{c}/{c}_{n}.jpg",
    "eurosat_ms": "ds/images/remote_sensing/otherDatasets/sentinel_2/tif/{c}/{c}_{n}.tif",
    "patternnet": "PatternNet/images/{c}/{low}{n:03}.jpg",
    "resisc45": "NWPU-RESISC45/{c}/{c}_{n:03}.jpg",
    "rsscn7": "RSSCN7-master/{c}/{c[0]}{n:03}.jpg",
    "ucmerced": "UCMerced_LandUse/Images/{c}/{c}{n:02}.tif",
    "whu_rs19": "WHU-RS19/{c}/{low}_{n:02}.jpg",
}


def declared() -> dict[str, type[Declared]]:
    found = {}
    for path in (ROOT / "rs_prune" / "dataset").glob("*.py"):
        for value in vars(importlib.import_module(f"rs_prune.dataset.{path.stem}")).values():
            if isinstance(value, type) and issubclass(value, Declared) and value is not Declared:
                found[path.stem] = value
    return found


SETS = declared()
every = pytest.mark.parametrize("name", sorted(SETS))


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A few tiny scenes of every class of every set, as its archive holds them; read only."""
    made: dict[str, Path] = {}

    def tree(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            draw = np.random.default_rng(len(made))
            for label in SETS[name].classes:
                for n in range(1, EACH + 1):
                    path = made[name] / LAYOUTS[name].format(c=label, low=plain(label), n=n)
                    paint(path, draw, SETS[name])
        return made[name]

    return tree


def paint(path: Path, draw: np.random.Generator, kind: type[Declared]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(kind.bands)
    if path.suffix == ".jpg":
        write_jpeg(torch.from_numpy(draw.integers(0, 256, (bands, 8, 8), np.uint8)), str(path))
        return
    deep = bands == 13
    pixels = draw.integers(0, 10_000 if deep else 256, (bands, 8, 8)).astype(np.uint16 if deep else np.uint8)
    profile = {"driver": "GTiff", "dtype": pixels.dtype, "count": bands, "width": 8, "height": 8}
    if deep:
        profile |= {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 5.5e6)}
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)


def parts_by_content(scenes, seed=0):
    digests = content_digests(scenes)
    _, pixels, _ = decode(scenes)
    parts = split(scenes, units(scenes, digests, pixels), train=0.5, val=0.25, test=0.25, seed=seed)
    return {part: {(digests[i], scenes.labels[i]) for i in getattr(parts, part)} for part in PARTS}


# -------------------------------------------------------------------------------- the declarations


def test_every_declared_set_has_a_layout_here():
    assert SETS.keys() == LAYOUTS.keys()


@every
def test_the_yaml_names_every_argument_with_its_default(name):
    path = ROOT / "conf" / "dataset" / f"{name}.yaml"
    assert path.read_text().startswith("# ")
    made = build(OmegaConf.load(path), "dataset")
    assert type(made) is SETS[name]
    assert vars(made) == vars(SETS[name]())
    assert SETS[name].name == name


@every
def test_a_declaration_agrees_with_itself(name):
    kind = SETS[name]
    assert len({plain(label) for label in kind.classes}) == len(kind.classes)
    if isinstance(kind.per_class, int):
        assert kind.per_class * len(kind.classes) == kind.images
    elif kind.per_class is not None:
        assert len(kind.per_class) == len(kind.classes)
        assert sum(kind.per_class) == kind.images
    assert re.search(r"doi 10\.\d{4}/\S+", kind.citation)
    assert kind.licence
    assert (kind.mean is None) == (kind.std is None)
    if kind.source:
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", kind.source.checksum)
        assert kind.source.images == kind.images


# ------------------------------------------------------------------------------------- the layout


@every
def test_the_distributed_layout_is_found_and_decoded(name, trees, caplog):
    with caplog.at_level(logging.INFO, "rs_prune"):
        scenes = SETS[name](root=str(trees(name)), size=8)()
    kind = SETS[name]
    assert scenes.classes == kind.classes
    assert [file.split("/")[0] for file in scenes.files] == [kind.classes[label] for label in scenes.labels]
    assert len(scenes.files) == EACH * len(kind.classes)
    assert all((scenes.root / file).is_file() for file in scenes.files)
    _, pixels, skipped = decode(scenes)
    assert skipped == ()
    assert pixels.shape == (len(scenes.files), len(kind.bands), 8, 8)
    assert pixels.dtype == (np.uint16 if kind.scale == 1e-4 else np.uint8)
    (count,) = (line for line in caplog.messages if "images, where" in line)
    assert f"{len(scenes.files)} images, where {name} has {kind.images}" in count
    assert "class folders found here" in caplog.text


@pytest.mark.parametrize("name", ["eurosat_ms", "ucmerced"])
def test_bands_are_in_the_order_of_the_file(name, trees):
    scenes = SETS[name](root=str(trees(name)), size=8)()
    with rasterio.open(scenes.root / scenes.files[0]) as scene:
        assert (decode(scenes)[1][0] == scene.read()).all()


@every
def test_an_archive_leads_to_the_same_split(name, trees, tmp_path, monkeypatch):
    """Through `fetch` where the set can be fetched, else unpacked by hand into the data folder."""
    kind, tree = SETS[name], trees(name)
    if kind.source is None:
        with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as file:
            file.add(tree, ".")
        unpack(tmp_path / "set.tar.gz", tmp_path / kind.below, limit_files=10_000, limit_bytes=10**8)
    else:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
            for path in sorted(tree.rglob("*.*")):
                file.write(path, path.relative_to(tree))
        monkeypatch.setattr(kind, "source", replace(kind.source, images=EACH * len(kind.classes)))
        checksum = hashlib.md5((tmp_path / "set.zip").read_bytes()).hexdigest()
        source = {"url": (tmp_path / "set.zip").as_uri(), "checksum": f"md5:{checksum}"}
        dataset = {"_target_": f"{kind.__module__}.{kind.__name__}", "root": str(tmp_path / kind.below)}
        fetch.main(OmegaConf.create({"dataset": dataset, "source": source, "quiet": True}))
        assert {path.name for path in (tmp_path / kind.below).iterdir()} >= set(kind.classes)
    monkeypatch.setenv("RS_PRUNE_DATA", str(tmp_path))
    assert parts_by_content(kind(size=8)()) == parts_by_content(kind(root=str(tree), size=8)())


@every
def test_a_renamed_and_reordered_copy_gives_the_same_split(name, trees, tmp_path, caplog):
    kind, rng = SETS[name], random.Random(3)
    files = sorted(trees(name).rglob("*.*"))
    rng.shuffle(files)
    for number, path in enumerate(files):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path.parent.name)
        folder = tmp_path / words.replace("_", "_- "[len(words) % 3]).swapcase()
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / f"{number:05}{path.suffix.upper()}")
    with caplog.at_level(logging.INFO, "rs_prune"):
        copy = kind(root=str(tmp_path), size=8)()
    assert caplog.text.count("under other names") == 1
    assert copy.classes == kind.classes
    original = kind(root=str(trees(name)), size=8)()
    for seed in (0, 1):
        assert parts_by_content(copy, seed) == parts_by_content(original, seed)


@pytest.mark.parametrize(("name", "archive"), [("aid", "AID.rar"), ("resisc45", "NWPU-RESISC45.rar")])
def test_a_rar_names_the_tool(name, archive, tmp_path, monkeypatch):
    """Both sets are also handed out as .rar."""
    (tmp_path / archive).write_bytes(b"Rar!\x1a\x07\x01\x00")
    with pytest.raises(RsPruneError, match=f"{archive}: unpack .rar archives yourself, with unar"):
        unpack(tmp_path / archive, tmp_path / "set", limit_files=1, limit_bytes=1)
    assert not (tmp_path / "set").exists()
    kind = SETS[name]
    source = Source(url=(tmp_path / archive).as_uri(), checksum="md5:", folder="", images=kind.images)
    monkeypatch.setattr(kind, "source", source)
    checksum = hashlib.md5((tmp_path / archive).read_bytes()).hexdigest()
    words = {"url": None, "checksum": f"md5:{checksum}"}
    dataset = {"_target_": f"{kind.__module__}.{kind.__name__}", "root": str(tmp_path / "set")}
    with pytest.raises(RsPruneError, match="yourself, with unar"):
        fetch.main(OmegaConf.create({"dataset": dataset, "source": words, "quiet": True}))
    assert not (tmp_path / "set").exists()


KINDS = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tgz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar"}


@pytest.mark.parametrize("ending", KINDS)
def test_every_kind_of_archive_is_unpacked_whatever_its_name(ending, trees, tmp_path):
    made = Path(shutil.make_archive(str(tmp_path / "made"), KINDS[ending], trees("rsscn7")))
    for number, name in enumerate((f"set.{ending}", "download")):
        shutil.copy(made, tmp_path / name)
        unpack(tmp_path / name, tmp_path / str(number), limit_files=1000, limit_bytes=10**8)
        there = SETS["rsscn7"](root=str(tmp_path / str(number)), size=8)()
        assert parts_by_content(there) == parts_by_content(SETS["rsscn7"](root=str(trees("rsscn7")), size=8)())


@every
def test_a_layout_that_does_not_match_says_what_was_expected_and_found(name, trees, tmp_path):
    """Flat files, as some copies are handed out; and one class missing."""
    kind = SETS[name]
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in sorted(trees(name).rglob("*.*"))[:8]:
        shutil.copy(path, flat / path.name)
    expected = f"expected one folder for each of {len(kind.classes)} classes"
    with pytest.raises(
        RsPruneError, match=f"{expected}; missing: {kind.classes[0]}, .*; found: no folder; set "
    ) as said:
        kind(root=str(flat))()
    assert "\n" not in str(said.value)
    for label in kind.classes[1:]:
        (tmp_path / "set" / label).mkdir(parents=True)
    with pytest.raises(RsPruneError, match=f"{expected}; missing: {kind.classes[0]}; found: {kind.classes[1]}, "):
        kind(root=str(tmp_path / "set"))()


def warnings(caplog):
    """Other tests may have had the log speak of more than warnings."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_counts_that_differ_are_named_and_equal_ones_are_not(trees, monkeypatch, caplog):
    kind = SETS["rsscn7"]
    monkeypatch.setattr(kind, "per_class", (4, 4, 5, 4, 4, 4, 4))
    monkeypatch.setattr(kind, "images", 29)
    kind(root=str(trees("rsscn7")))()
    (line,) = warnings(caplog)
    assert line.endswith("28 images, where rsscn7 has 29 (cIndustry 4 of 5)")
    caplog.clear()
    monkeypatch.setattr(kind, "per_class", 4)
    monkeypatch.setattr(kind, "images", 28)
    kind(root=str(trees("rsscn7") / "RSSCN7-master"))()
    assert warnings(caplog) == []


@pytest.mark.real
def test_the_real_multispectral_subset_is_found(real_data, caplog):
    scenes = SETS["eurosat_ms"](root=str(real_data / "eurosat_ms"))()
    assert len(scenes.files) == 369
    assert "369 images, where eurosat_ms has 27000" in caplog.text
    few = replace(scenes, files=scenes.files[::40], labels=scenes.labels[::40])
    _, pixels, _ = decode(few)
    assert pixels.dtype == np.uint16
    # Cirrus (B10) sees next to nothing of the ground; near infrared and its narrow twin (B08, B8A) see much the same.
    mean = dict(zip(scenes.bands, pixels.mean((0, 2, 3)), strict=True))
    assert mean["B10"] < 0.1 * min(mean[band] for band in ("B02", "B08", "B8A"))
    assert mean["B8A"] == pytest.approx(mean["B08"], rel=0.25)
