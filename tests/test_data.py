"""`rs-prune data`: what a set holds, said and drawn, faulty files and all."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio
from fakes import decode
from fakes import units as whole_units
from rasterio.transform import from_origin
from torchvision.io import decode_image, read_file

from rs_prune.dataset.folder import Folder
from rs_prune.results.sheet import stretch, true_colour
from rs_prune.scenes.load import load
from rs_prune.scenes.splits import content_digests
from rs_prune.scenes.survey import survey, units


def write(path, pixels, crs="EPSG:32633", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    place = from_origin(5e5, 5e6, 10, 10)
    with rasterio.open(path, "w", **profile, dtype=pixels.dtype, crs=crs, transform=place, **options) as file:
        file.write(pixels)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """Two classes of ten 5-band scenes, and one file of every kind of fault."""
    root, draw = tmp_path_factory.mktemp("data") / "troubled", np.random.default_rng(0)
    for label in ("water", "wood"):
        for number in range(10):
            crs = f"EPSG:3263{2 + number % 2}"
            write(root / label / f"{number}.tif", draw.integers(1, 9000, (5, 8, 8)).astype(np.uint16), crs)
    with rasterio.open(root / "wood" / "0.tif") as scene:
        write(root / "wood" / "twin.tif", scene.read(), compress="deflate")
    write(root / "wood" / "size.tif", draw.integers(1, 9000, (5, 6, 7)).astype(np.uint16), None)
    write(root / "wood" / "type.tif", draw.integers(1, 255, (5, 8, 8)).astype(np.uint8))
    write(root / "wood" / "bands.tif", draw.integers(1, 9000, (4, 8, 8)).astype(np.uint16))
    write(root / "water" / "zero.tif", np.zeros((5, 8, 8), np.uint16))
    write(root / "water" / "nodata.tif", np.full((5, 8, 8), 7777, np.uint16), nodata=7777)
    (root / "water" / "cut.tif").write_bytes((root / "water" / "0.tif").read_bytes()[:300])
    return root


def test_the_summary_names_what_is_wrong(rs_prune, troubled, tmp_path):
    answer = rs_prune("data", "dataset=folder", f"dataset.root={troubled}", "out=here", "images=3")
    assert answer.status == 0, answer.err
    folder = tmp_path / "here" / "data" / "troubled"
    assert {path.name for path in folder.iterdir()} == {"summary.json", "contact_sheet.png"}
    facts = json.loads((folder / "summary.json").read_text())
    assert facts["images"] == 27
    assert facts["classes"]["wood"]["images"] == 14
    assert facts["split"]["val"] == 2
    assert sum(facts["split"].values()) == 23  # with the one that is 0 throughout, as in a run
    assert sum(facts["classes"]["wood"][part] for part in ("train", "val", "test")) == 12
    assert facts["sizes"]["7x6"] == 1
    assert facts["dtypes"]["uint8"] == 1
    assert facts["band_counts"]["4"] == 1
    assert facts["crs"]["EPSG:32632"] == 10
    assert facts["crs"]["none"] == 1
    assert facts["duplicates"] == [["wood/0.tif", "wood/twin.tif"]]
    assert list(facts["corrupt"]) == ["water/cut.tif"]
    assert facts["nodata_only"] == ["water/nodata.tif", "water/zero.tif"]
    assert set(facts["odd"]) == {"wood/bands.tif", "wood/type.tif"}
    for said in (
        "cannot be read: water/cut.tif",
        "holds nodata or 0 only: water/zero.tif",
        "differs from the other files: wood/type.tif (5 bands of uint8)",
        "differs from the other files: wood/bands.tif (4 bands of uint16)",
        "identical images: wood/0.tif, wood/twin.tif",
        "EPSG:32632 (10)",
        "7x6 (1)",
        "here/data/troubled/contact_sheet.png",
    ):
        assert said in answer.out
    sheet = decode_image(read_file(str(folder / "contact_sheet.png")))
    assert sheet[:3].float().std() > 30
    before = (folder / "contact_sheet.png").read_bytes()
    assert (
        rs_prune("data", "dataset=folder", f"dataset.root={troubled}", "out=here", "images=3", "quiet=true").out == ""
    )
    assert (folder / "contact_sheet.png").read_bytes() == before


def test_statistics_and_parts_are_those_of_a_run(rs_prune, scene_folder, tmp_path):
    shutil.copytree(scene_folder, tmp_path / "set")
    scenes = Folder(root=str(tmp_path / "set"))()
    shares = {"train": 0.6, "val": 0.1, "test": 0.3}
    loaded = load(Folder(root=str(tmp_path / "set")), identity="d", shares=shares, seed=0, cache=tmp_path)
    assert rs_prune("data", "dataset=folder", f"dataset.root={tmp_path / 'set'}", "out=here").status == 0
    facts = json.loads((tmp_path / "here" / "data" / "set" / "summary.json").read_text())
    assert facts["statistics"]["train"]["mean"] == pytest.approx(loaded.mean)
    assert facts["statistics"]["train"]["std"] == pytest.approx(loaded.std)
    assert facts["split"] == {"train": 36, "val": 6, "test": 18}
    _, pixels, _ = decode(scenes)
    for index, name in enumerate(scenes.bands):
        assert facts["range"][name] == [pixels[:, index].min(), pixels[:, index].max()]
    assert units(survey(scenes)) == whole_units(scenes, content_digests(scenes), pixels)


def test_a_set_too_small_to_split_is_still_shown(rs_prune, troubled, tmp_path):
    for label in ("water", "wood"):
        (tmp_path / "two" / label).mkdir(parents=True)
        shutil.copy(troubled / label / "1.tif", tmp_path / "two" / label)
    answer = rs_prune("data", "dataset=folder", f"dataset.root={tmp_path / 'two'}", "out=here")
    assert answer.status == 0, answer.err
    assert "not split: class water: 1 different images are too few" in answer.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("images=0",), "images=0: must be a whole number"),
        (("dataset.root=nowhere",), "nowhere: no such folder; set dataset.root"),
        (("split=lists",), "not split: split=lists: troubled brings no lists along"),
        (("image=3",), "image"),
    ],
)
def test_mistakes_are_one_line(rs_prune, troubled, words, said):
    answer = rs_prune("data", "dataset=folder", f"dataset.root={troubled}", "out=here", *words)
    assert said in answer.err + answer.out
    assert "Traceback" not in answer.err
    assert answer.status == (0 if "not split" in said else 1)


def test_nothing_but_faults_is_refused(rs_prune, tmp_path):
    for label in ("a", "b"):
        write(tmp_path / "set" / label / "0.tif", np.zeros((3, 8, 8), np.uint8))
    answer = rs_prune("data", "dataset=folder", f"dataset.root={tmp_path / 'set'}", "out=here")
    assert answer.status == 1
    assert "none of the 2 images can be read and holds anything but nodata" in answer.err
    assert not (tmp_path / "here").exists()


def test_true_colour_is_found_by_name_and_stretched_for_all_scenes_alike():
    assert true_colour(("B01", "B02", "B03", "B04")) == (3, 2, 1)
    assert true_colour(("blue", "green", "red", "nir")) == (2, 1, 0)
    assert true_colour(("band1", "band2", "band3", "band4")) == (0, 1, 2)
    assert true_colour(("VV", "VH")) == (0, 0, 0)
    dark, bright = (
        np.random.default_rng(0).integers(low, low + 1000, (3, 32, 32)).astype(np.uint16) for low in (1, 9000)
    )
    one, two = stretch([dark, bright])
    assert one.dtype == two.dtype == np.uint8
    assert one.max() < two.min()
    grey = np.full((3, 4, 4), 90, np.uint8)
    assert (stretch([grey])[0] == 90).all()
