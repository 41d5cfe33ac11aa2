"""Decoding: every kind of GeoTIFF, nodata, resizing, statistics; real scenes against rasterio itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from fakes import decode
from PIL import Image
from rasterio.transform import from_origin
from torchvision.io import ImageReadMode, decode_image

from rs_prune.contracts import Scenes
from rs_prune.dataset.folder import Folder
from rs_prune.errors import RsPruneError
from rs_prune.scenes.pixels import statistics
from rs_prune.scenes.reading import read, resize


def write(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2],
        "dtype": pixels.dtype, "crs": "EPSG:32633", "transform": from_origin(0, 0, 10, 10), **options,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    return path


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 13])
def test_a_geotiff_is_read_as_stored(tmp_path, kind, bands):
    pixels = np.random.default_rng(0).integers(0, 250, (bands, 9, 7)).astype(kind)
    got = read(write(tmp_path / "scene.tif", pixels))
    assert got.dtype == kind
    assert (got == pixels).all()


def test_other_integers_become_floats(tmp_path):
    pixels = np.array([[[-5, 300]]], np.int16)
    got = read(write(tmp_path / "scene.tif", pixels))
    assert got.dtype == np.float32
    assert (got == pixels).all()


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 2}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("size", [(64, 64), (31, 17)])
def test_a_jpeg_of_any_kind_has_torchvisions_pixels(tmp_path, mode, size, options):
    channels = {"RGB": 3, "L": 1, "CMYK": 4}[mode]
    pixels = np.random.default_rng(0).integers(0, 255, (*size, channels)).astype(np.uint8)
    path = tmp_path / "scene.jpg"
    Image.fromarray(pixels.squeeze(), mode).save(path, quality=85, **options)
    got = read(path)
    assert got.shape == (3, *size)
    assert (got == decode_image(str(path), mode=ImageReadMode.RGB).numpy()).all()


def test_the_content_says_what_a_photo_is_not_its_name(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    renamed = (tmp_path / "scene.png").rename(tmp_path / "scene.jpg")
    assert (read(renamed) == pixels.transpose(2, 0, 1)).all()


def test_nodata_and_nan_become_zero(tmp_path):
    pixels = np.array([[[7, 9999], [3, 4]]], np.uint16)
    assert read(write(tmp_path / "nodata.tif", pixels, nodata=9999)).tolist() == [[[7, 0], [3, 4]]]
    floats = np.array([[[0.5, np.nan]]], np.float32)
    assert read(write(tmp_path / "nan.tif", floats)).tolist() == [[[0.5, 0.0]]]


def test_a_cut_off_geotiff_is_named(tmp_path):
    path = write(tmp_path / "scene.tif", np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RsPruneError, match=str(path)):
        read(path)


def test_resizing_keeps_type_and_range():
    pixels = np.full((2, 40, 60), 65535, np.uint16)
    small = resize(pixels, (20, 30))
    assert small.dtype == np.uint16
    assert small.shape == (2, 20, 30)
    assert (small == 65535).all()
    assert resize(pixels, (40, 60)) is pixels


def of_bands(bands, size, scale):
    names = tuple(f"band{number + 1}" for number in range(bands))
    return Scenes(
        name="none", root=Path("nowhere"), files=(), labels=(), classes=("a",), bands=names, size=(size, size),
        scale=scale, mean=None, std=None,
    )  # fmt: skip


@pytest.mark.parametrize("size", [4, 7, 33])
@pytest.mark.parametrize("bands", [1, 2, 3, 13])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_statistics_have_the_bits_of_sums_over_whole_chunks(bands, size, kind):
    pixels = np.random.default_rng(bands).integers(0, 250, (300, bands, size, size)).astype(kind)
    total = square = 0.0
    for chunk in (pixels[:256], pixels[256:]):
        values = chunk.astype(np.float64) * (1 / 255)
        total, square = total + values.sum((0, 2, 3)), square + (values**2).sum((0, 2, 3))
    count = 300 * size * size
    mean, std = statistics(of_bands(bands, size, 1 / 255), pixels, range(300))
    assert mean == tuple((total / count).tolist())
    assert std == tuple(np.sqrt(square / count - (total / count) ** 2).tolist())


def test_statistics_are_those_of_numpy_on_the_chosen_images():
    pixels = np.random.default_rng(1).integers(0, 255, (700, 3, 4, 4)).astype(np.uint8)
    chosen = list(range(0, 700, 2))
    mean, std = statistics(of_bands(3, 4, 1 / 255), pixels, chosen)
    values = pixels[chosen].astype(float) / 255
    assert np.allclose(mean, values.mean((0, 2, 3)))
    assert np.allclose(std, values.std((0, 2, 3)))


def test_a_constant_band_is_refused():
    pixels = np.random.default_rng(1).integers(0, 255, (4, 2, 4, 4)).astype(np.uint8)
    pixels[:, 1] = 7
    with pytest.raises(RsPruneError, match="band band2"):
        statistics(of_bands(2, 4, 1.0), pixels, range(4))


def test_a_multiband_folder_is_discovered(tmp_path):
    draw = np.random.default_rng(2)
    for name in ("wood", "water"):
        for number in range(3):
            write(tmp_path / name / f"{number}.tif", draw.integers(0, 9000, (5, 12, 12)).astype(np.uint16))
    scenes = Folder(root=str(tmp_path))()
    assert scenes.classes == ("water", "wood")
    assert scenes.bands == ("band1", "band2", "band3", "band4", "band5")
    assert scenes.size == (12, 12)
    assert scenes.scale == 1.0
    assert scenes.mean is None
    _, pixels, skipped = decode(scenes)
    assert pixels.shape == (6, 5, 12, 12)
    assert pixels.dtype == np.uint16
    assert skipped == ()


@pytest.mark.real
def test_real_multispectral_scenes_are_read_as_rasterio_reads_them(real_data):
    files = sorted((real_data / "eurosat_ms").glob("*/*.tif"))[::40]
    assert files
    for path in files:
        with rasterio.open(path) as scene:
            assert (read(path) == scene.read()).all()
        assert read(path).shape == (13, 64, 64)


@pytest.mark.real
def test_declared_statistics_of_eurosat_are_those_of_its_training_part(real_data, tmp_path):
    from rs_prune.dataset.eurosat import EuroSAT
    from rs_prune.scenes.load import load

    loaded = load(
        EuroSAT(root=str(real_data / "eurosat_rgb")), identity="test", shares={"train": 0.6, "val": 0.1, "test": 0.3},
        seed=0,
        cache=tmp_path,
    )  # fmt: skip
    mean, std = statistics(loaded.scenes, loaded.pixels, loaded.parts.train)
    assert np.allclose(mean, EuroSAT.mean, atol=1e-4)
    assert np.allclose(std, EuroSAT.std, atol=1e-4)
