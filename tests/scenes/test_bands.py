"""Bands by name, indices, and what of a file is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from fakes import decode
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rs_prune.contracts import Scenes
from rs_prune.dataset.eurosat_ms import EuroSATMS
from rs_prune.dataset.folder import Folder
from rs_prune.errors import RsPruneError
from rs_prune.job import dense_identity
from rs_prune.results.store import digest
from rs_prune.scenes.bands import made_of, only, scaled, select
from rs_prune.scenes.load import load
from rs_prune.scenes.pixels import statistics
from rs_prune.scenes.reading import read

SHARES = {"train": 0.5, "val": 0.25, "test": 0.25}


def scenes(**given) -> Scenes:
    plain = Scenes(
        name="some", root=Path("/nowhere"), files=(), labels=(), classes=(), bands=("a", "b", "c", "d"), size=(4, 4),
        scale=0.5, mean=(1.0, 2.0, 3.0, 4.0), std=(5.0, 6.0, 7.0, 8.0),
    )  # fmt: skip
    return replace(plain, **given)


def tif(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2],
        "dtype": pixels.dtype, "crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 5.5e6), **options,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    draw = np.random.default_rng(2)
    for name in ("wood", "water"):
        for number in range(4):
            tif(tmp_path / "set" / name / f"{number}.tif", draw.integers(1, 9000, (5, 8, 8)).astype(np.uint16))
    return tmp_path / "set"


# ------------------------------------------------------------------------------------- selection


def test_all_bands_are_the_set_as_it_was():
    assert select(scenes()) == scenes()
    assert select(scenes(), bands=["a", "b", "c", "d"]) == scenes()


def test_a_subset_keeps_its_order_and_its_statistics():
    chosen = select(scenes(), bands=["d", "b"])
    assert (chosen.bands, chosen.reads) == (("d", "b"), (3, 1))
    assert (chosen.mean, chosen.std) == ((4.0, 2.0), (8.0, 6.0))
    assert chosen.stored == scenes().bands


def test_an_index_reads_what_it_is_made_of_and_has_its_statistics_computed():
    chosen = select(scenes(), bands=["a"], indices=["X"], table={"X": ("c", "a")})
    assert (chosen.bands, chosen.reads) == (("a", "X"), (0, 2))
    assert chosen.mean is None and chosen.std is None
    assert made_of(chosen) == {"X": ["c", "a"]}
    image = torch.tensor([4, 12], dtype=torch.uint16).view(1, 2, 1, 1)
    assert scaled(chosen, image).flatten().tolist() == [2.0, 0.5]  # (12 - 4) / (12 + 4)


def test_an_index_is_bounded_and_zero_where_there_is_nothing():
    chosen = select(scenes(), bands=[], indices=["X"], table={"X": ("a", "b")})
    image = torch.tensor([[0.0, 0.0], [1.0, -3.0], [5.0, 0.0]]).view(3, 2, 1, 1)
    assert scaled(chosen, image).flatten().tolist() == [0.0, -1.0, 1.0]
    assert image[1, 0, 0, 0] == 1.0  # not scaled in place


def test_bands_of_bands_are_those_of_the_set():
    chosen = select(scenes(), bands=["d", "a", "c"], indices=["X"], table={"X": ("c", "b")})
    fewer = only(only(chosen, [0, 2, 3]), [0, 2])
    image = torch.arange(1.0, 5).view(1, 4, 1, 1)  # d, a, c and, for the index, b
    assert fewer.bands == ("d", "X")
    assert scaled(fewer, image).flatten().tolist() == pytest.approx([0.5, (3 - 4) / (3 + 4)])
    assert made_of(fewer) == {"X": ["c", "b"]}
    assert only(scenes(), [1, 3]).mean == (2.0, 4.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bands": ["B99"]}, "no band B99; its bands are a, b, c, d"),
        ({"bands": ["a", "a"]}, "names one twice"),
        ({"bands": "a"}, "must be all or a list of names, such as [a,b,c]"),
        ({"bands": 3}, "must be all or a list"),
        ({"bands": []}, "nothing is left"),
        ({"indices": ["Y"]}, "it has no indices"),
        ({"indices": ["Y"], "table": {"X": ("a", "b")}}, "no index Y; its indices are X"),
        ({"indices": ["X"], "table": {"X": ("a", "e")}}, "made of a band e, and the bands of some are a, b, c, d"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(given, said):
    with pytest.raises(RsPruneError) as refused:
        select(scenes(), **given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


# --------------------------------------------------------------------------------------- reading


def test_only_the_bands_asked_for_are_read_in_their_order(tree, monkeypatch):
    asked = []
    whole, start = rasterio.io.DatasetReader.read, rasterio.open
    monkeypatch.setattr("rs_prune.scenes.reading.rasterio.open", lambda path: Spy(start(path), asked, whole))
    chosen = Folder(root=str(tree), bands=["band4", "band2"])()
    asked.clear()  # the first file is opened whole to see what there is
    _, pixels, _ = decode(chosen)
    assert asked == [[4, 2]] * 8
    with start(tree / chosen.files[3]) as file:
        assert (pixels[3] == file.read([4, 2])).all()


class Spy:
    """An open file that notes which bands it is asked for."""

    def __init__(self, file, asked, whole):
        self.file, self.asked, self.whole = file, asked, whole

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def read(self, bands):
        self.asked.append(list(bands))
        return self.whole(self.file, bands)


def test_a_photo_gives_the_bands_asked_for(scene_folder):
    whole, chosen = Folder(root=str(scene_folder))(), Folder(root=str(scene_folder), bands=["blue", "red"])()
    assert chosen.bands == ("blue", "red")
    assert (decode(chosen)[1] == decode(whole)[1][:, [2, 0]]).all()


def test_a_file_of_other_bands_is_named_whatever_is_read(tree):
    odd = tif(tree / "wood" / "9.tif", np.ones((6, 8, 8), np.uint16))
    with pytest.raises(RsPruneError, match=rf"{odd}: 6 bands where the set has 5 \(band1, "):
        decode(Folder(root=str(tree), bands=["band1"])())


@pytest.mark.parametrize(("kind", "nodata"), [(np.uint16, 7), (np.float32, None), (np.float32, -1.0)])
def test_an_image_of_nodata_alone_is_named(tmp_path, kind, nodata):
    pixels = np.full((3, 4, 4), np.nan if nodata is None else nodata, kind)
    with pytest.raises(RsPruneError, match=r"empty\.tif: holds nothing but nodata"):
        read(tif(tmp_path / "empty.tif", pixels, nodata=nodata))
    pixels[1, 0, 0] = 3
    path = tif(tmp_path / "full.tif", pixels, nodata=nodata)
    assert read(path).sum() == 3
    with pytest.raises(RsPruneError, match=r"full\.tif: holds nothing but nodata"):
        read(path, bands=[0, 2])


def test_bands_of_other_places_keep_their_own_nodata(tmp_path):
    pixels = np.array([[[1, 9]], [[9, 2]]], np.uint16)
    assert read(tif(tmp_path / "some.tif", pixels, nodata=9), bands=[1, 0]).tolist() == [[[0, 2]], [[1, 0]]]


# ------------------------------------------------------------------------------- the whole of it


def test_every_choice_of_bands_is_split_alike_and_has_statistics_of_its_own(tree, tmp_path):
    def loaded(**given):
        return load(Folder(root=str(tree), **given), identity=str(given), shares=SHARES, seed=0, cache=tmp_path)

    whole = loaded()
    few = loaded(bands=["band3"], indices={"X": ["band1", "band5"]})
    assert few.parts == whole.parts
    assert few.fingerprint != whole.fingerprint
    assert few.mean[0] == whole.mean[2]
    train = whole.pixels[list(whole.parts.train)].astype(float)
    index = (train[:, 0] - train[:, 4]) / (train[:, 0] + train[:, 4])
    assert (few.mean[1], few.std[1]) == pytest.approx((index.mean(), index.std()))
    again = loaded(bands=["band5"], indices={"X": ["band1", "band5"]})  # the same sizes, other bands
    assert again.mean[0] == whole.mean[4]


def test_the_scale_of_a_folder_can_be_declared(tree):
    scene = Folder(root=str(tree), scale=1e-4)()
    assert scaled(scene, torch.full((1, 5, 1, 1), 5000)).flatten().tolist() == pytest.approx([0.5] * 5)
    for scale, words in ((0, "dataset.scale=0"), (-1, "dataset.scale=-1")):
        with pytest.raises(RsPruneError, match=words):
            Folder(root=str(tree), scale=scale)
    with pytest.raises(RsPruneError, match=r"dataset\.indices\.X=.*two bands"):
        Folder(root=str(tree), indices={"X": ["band1"]})


def test_statistics_are_those_of_numpy_in_double_precision():
    pixels = np.random.default_rng(1).integers(0, 9000, (300, 4, 4, 4)).astype(np.uint16)
    mean, _ = statistics(scenes(scale=1e-4), pixels, range(300))
    total = sum((pixels[n : n + 256].astype(np.float64) * 1e-4).sum((0, 2, 3)) for n in (0, 256))
    assert mean == tuple((total / (300 * 16)).tolist())  # to the last bit: fingerprints hold them


def test_an_unchanged_configuration_keeps_its_digest():
    """Records and dense nets made before bands could be chosen stay valid."""
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base="1.3"):
        plain = OmegaConf.to_container(compose("run"), resolve=True)
        gated = OmegaConf.to_container(compose("run", ["attach.input=only"]), resolve=True)
    assert digest(dense_identity(plain)) == "07e41c095be7bb27"
    assert digest(dense_identity(gated)) != "07e41c095be7bb27"


# ------------------------------------------------------------------------------------- real data


@pytest.mark.real
def test_real_scenes_are_read_as_rasterio_reads_them(real_data):
    """All that are there: every band, a subset in another order, an index, and the CRS."""
    whole = EuroSATMS(root=str(real_data / "eurosat_ms"))()
    chosen = EuroSATMS(root=str(real_data / "eurosat_ms"), bands=["B8A", "B02", "B11"], indices=["NDVI", "NDWI"])()
    assert chosen.bands == ("B8A", "B02", "B11", "NDVI", "NDWI")
    assert len(whole.files) >= 369
    _, pixels, skipped = decode(whole)
    _, few, _ = decode(chosen)
    assert skipped == ()
    zones = set()
    for place, file in enumerate(whole.files):
        with rasterio.open(whole.root / file) as scene:
            stored = scene.read()
            assert (scene.count, scene.shape, scene.dtypes[0]) == (13, (64, 64), "uint16")
            zones.add(scene.crs.to_epsg())
        assert (pixels[place] == stored).all()
        assert (few[place][:3] == stored[[12, 1, 10]]).all()
    assert zones <= set(range(32629, 32637))  # UTM 29N to 36N
    assert len(zones) > 1
    image = scaled(chosen, torch.from_numpy(few[:20])).numpy()
    red, green, near = (pixels[:20, band].astype(float) for band in (3, 2, 7))
    assert np.allclose(image[:, 0], pixels[:20, 12] / 1e4)
    assert np.allclose(image[:, 3], (near - red) / (near + red), atol=1e-6)
    assert np.allclose(image[:, 4], (green - near) / (green + near), atol=1e-6)
