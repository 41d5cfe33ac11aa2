"""Spatial splits: whole blocks of neighbours, shares met, a function of content and place alone."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform

from rs_prune.dataset.folder import Folder
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.scenes.blocks import assign, cells, centres, joined
from rs_prune.scenes.splits import PARTS, content_digests, split

SHARES = {"train": 0.6, "val": 0.1, "test": 0.3}
SPATIAL = {**SHARES, "block_km": 10, "seed": 0}


def write(path: Path, x: float, y: float, *, crs: str = "EPSG:32633", seed: int = 0, metres: float = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 3, "height": 4, "width": 4, "dtype": "uint8", "crs": crs}
    place = from_origin(x, y, metres, metres)
    with rasterio.open(path, "w", **profile, transform=place) as file:
        file.write(np.random.default_rng(seed).integers(0, 255, (3, 4, 4), np.uint8))
    return path


@pytest.fixture(scope="module")
def towns(tmp_path_factory):
    """120 scenes of three classes around 24 places far from each other, a file's place and class mixed."""
    root, draw = tmp_path_factory.mktemp("towns"), np.random.default_rng(1)
    for number in range(120):
        town = number % 24
        x, y = 300_000 + 40_000 * (town % 6), 5_400_000 + 40_000 * (town // 6)
        dx, dy = draw.uniform(-1500, 1500, 2)
        write(root / f"class{draw.integers(3)}" / f"{number:03}.tif", x + dx, y + dy, seed=number)
    return Folder(root=str(root))()


def blocks_of(scenes, km=10.0):
    return cells(centres(scenes), km)


def test_the_centre_of_a_scene_is_in_degrees_whatever_its_crs(tmp_path):
    lon, lat = 14.0, 50.0
    for number, crs in enumerate(("EPSG:32633", "EPSG:32632", "EPSG:3035", "EPSG:4326")):
        (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
        step = 1e-4 if crs == "EPSG:4326" else 10
        write(tmp_path / f"c{number % 2}" / f"{number}.tif", x - 2 * step, y + 2 * step, crs=crs, metres=step)
    scenes = Folder(root=str(tmp_path))()
    assert np.allclose(centres(scenes), [lon, lat], atol=1e-6)
    assert len(set(blocks_of(scenes))) == 1


@pytest.mark.parametrize("lat", [-60.0, 0.0, 47.0, 70.0])
@pytest.mark.parametrize("km", [2.0, 50.0])
def test_a_block_is_as_high_and_as_wide_as_asked_for(lat, km):
    """Along a parallel and a meridian, one block follows the next after that many kilometres on the ground."""
    degree = math.pi * 6371 / 180
    north = cells(np.array([[10.0, lat + n * km / degree] for n in range(20)]), km)
    assert [row for row, _ in north] == [north[0][0] + n for n in range(20)]
    middle = (math.floor(lat * degree / km) + 0.5) * km / degree
    east = cells(np.array([[10 + n * km / degree / math.cos(math.radians(middle)), middle] for n in range(20)]), km)
    assert [column for _, column in east] == [east[0][1] + n for n in range(20)]


def test_blocks_are_whole_and_shares_are_met(towns):
    digests = content_digests(towns)
    parts = split(towns, digests, **SPATIAL)
    home = {index: part for part in PARTS for index in getattr(parts, part)}
    assert sorted(home) == list(range(120))
    blocks = blocks_of(towns)
    assert len(set(blocks)) >= 24
    assert len({(block, home[index]) for index, block in enumerate(blocks)}) == len(set(blocks))
    for part, share in SHARES.items():
        assert len(getattr(parts, part)) == pytest.approx(120 * share, abs=3)
        for label in range(3):
            count = sum(towns.labels[index] == label for index in getattr(parts, part))
            assert count == pytest.approx(towns.labels.count(label) * share, abs=3)
    random_parts = split(towns, digests, **SHARES, seed=0)
    sides = {(block, part) for part in PARTS for block in {blocks[index] for index in getattr(random_parts, part)}}
    assert len(sides) > 1.5 * len(set(blocks))  # what the blocks are there to prevent


def test_names_and_order_do_not_matter_and_the_seed_does(towns, tmp_path):
    for number, file in enumerate(random.Random(5).sample(towns.files, len(towns.files))):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(towns.root / file, tmp_path / Path(file).parent / f"renamed{number:04}.TIF")
    copy = Folder(root=str(tmp_path))()

    def contents(scenes, seed):
        digests = content_digests(scenes)
        parts = split(scenes, digests, **{**SPATIAL, "seed": seed})
        return [{digests[index] for index in getattr(parts, part)} for part in PARTS]

    assert contents(copy, 0) == contents(towns, 0)
    assert contents(towns, 1) != contents(towns, 0)
    order = random.Random(3).sample(range(120), 120)
    mixed = replace(towns, files=tuple(towns.files[i] for i in order), labels=tuple(towns.labels[i] for i in order))
    assert contents(mixed, 0) == contents(towns, 0)


def test_identical_images_in_two_blocks_join_them():
    assert joined([(0, 0), (0, 1), (5, 5), (0, 1)], ["a", "b", "a", "c"]) == ["0 0", "0 1", "0 0", "0 1"]
    assert len(set(joined([(0, 0), (0, 1), (5, 5), (0, 1)], ["a", "b", "a", "a"]))) == 1


def test_identical_images_stay_together(towns):
    digests = list(content_digests(towns))
    blocks = blocks_of(towns)
    first, far = 0, next(index for index, block in enumerate(blocks) if block != blocks[0])
    digests[far] = digests[first]
    for seed in range(3):
        parts = split(towns, digests, **{**SPATIAL, "seed": seed})
        assert sum(first in getattr(parts, part) or far in getattr(parts, part) for part in PARTS) == 1
    assert parts.duplicates == ((towns.files[first], towns.files[far]),)


@pytest.mark.parametrize("seed", range(3))
def test_shares_are_met_to_the_image_where_the_blocks_allow_it(seed):
    blocks = [f"block{number // 5}" for number in range(500)]
    homes = assign(blocks, [0] * 500, SHARES, seed)
    assert Counter(homes) == {"train": 300, "val": 50, "test": 150}


def test_scenes_without_coordinates_are_refused(scene_folder, tmp_path):
    scenes = Folder(root=str(scene_folder))()
    with pytest.raises(DoesNotApply, match=r"split=spatial: .*class0/000.jpg has no coordinates; use .*split=default"):
        split(scenes, content_digests(scenes), **SPATIAL)
    for number in range(2):
        write(tmp_path / f"c{number}" / "0.tif", 0, 0, crs=None)
    plain = Folder(root=str(tmp_path))()
    with pytest.raises(DoesNotApply, match=r"c0/0\.tif has no coordinates"):
        split(plain, content_digests(plain), **SPATIAL)


def test_a_place_off_the_earth_is_refused(tmp_path):
    write(tmp_path / "a" / "0.tif", 500_000, 5_500_000)
    write(tmp_path / "b" / "0.tif", 1e12, 1e12)
    with pytest.raises(DoesNotApply, match=r"b/0\.tif lies nowhere on the earth"):
        centres(Folder(root=str(tmp_path))())


@pytest.mark.parametrize("km", [0.0, -1.0, 5001.0])
def test_a_block_without_a_sensible_side_is_refused(towns, km):
    with pytest.raises(RsPruneError, match=r"split\.block_km=.*: must lie between 0 and 5000"):
        split(towns, content_digests(towns), **{**SPATIAL, "block_km": km})


def test_too_few_blocks_name_the_class(towns):
    with pytest.raises(RsPruneError, match=r"class class\d: none of its \d+ images .* set a smaller split\.block_km"):
        split(towns, content_digests(towns), **{**SPATIAL, "block_km": 2000})


def test_the_command_line_takes_a_spatial_split(rs_prune, towns, scene_folder, tmp_path):
    from fakes import TINY_RUN

    words = ("run", *TINY_RUN, "criterion=l1", "attention=none", "split=spatial", "epochs=1", "dataset.size=32")
    answer = rs_prune(*words, f"dataset.root={towns.root}", "out=here")
    assert answer.status == 0, answer.err
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "here" / "records").glob("*.json")]
    parts = split(towns, content_digests(towns), **SPATIAL)
    assert [record["split"][part] for part in PARTS] == [len(getattr(parts, part)) for part in PARTS]
    lists = tmp_path / "here" / "splits" / towns.name / "seed0-0.6-0.1-0.3-blocks10km"
    assert set((lists / "test.txt").read_text().split()) == {towns.files[index] for index in parts.test}
    refused = rs_prune(*words, f"dataset.root={scene_folder}", "out=there")
    assert refused.status == 1
    assert "has no coordinates" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.real
def test_real_scenes_of_eight_zones_are_split(real_data):
    from rs_prune.dataset.eurosat_ms import EuroSATMS

    scenes = EuroSATMS(root=str(real_data / "eurosat_ms"))()
    blocks = blocks_of(scenes, 50)
    assert len(set(blocks)) == 234
    parts = split(scenes, content_digests(scenes), **{**SPATIAL, "block_km": 50})
    assert [len(getattr(parts, part)) for part in PARTS] == [222, 38, 109]
    home = {index: part for part in PARTS for index in getattr(parts, part)}
    assert len({(block, home[index]) for index, block in enumerate(blocks)}) == 234
