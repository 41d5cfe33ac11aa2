"""Decoding one scene: GeoTIFF through rasterio, JPEG through simplejpeg, everything else through torchvision."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import simplejpeg
import torch
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_image

from rs_prune.contracts import Scenes
from rs_prune.errors import PassingFault, RsPruneError

TIFF = (".tif", ".tiff")
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ESTALE)
"""Errors of the system, not of the file."""
FOUR_INKS = ("CMYK", "YCCK")
"""Colour spaces of JPEGs for print, whose pixels the two decoders round differently: they stay torchvision's."""
Pixels = NDArray[Any]
"""(bands, height, width): uint8, uint16 or float32."""


def read_scene(scenes: Scenes, file: str) -> Pixels:
    """Decodes those bands of one of the set's files that the set reads, as they are stored."""
    return read(scenes.root / file, scenes.reads, scenes.stored or scenes.bands)


def read(path: Path, bands: Sequence[int] = (), names: Sequence[str] = ()) -> Pixels:
    """Decodes an image as it is stored.

    Pixels that the file declares as nodata, and NaN, become 0.

    Args:
        path: A JPEG or PNG (delivered as RGB), or a TIFF with any number of uint8, uint16, int16 or
            float bands.
        bands: Positions of the bands to read, in the order of delivery; of a TIFF no others are decoded. Empty: all.
        names: The bands that the file must hold; empty: any.

    Returns:
        (bands, height, width) array: uint8, uint16 or float32.

    Raises:
        RsPruneError: When the file cannot be decoded, holds another number of bands, or in those read nothing but
            nodata.
    """
    try:
        if path.suffix.lower() in TIFF:
            return _read_tiff(path, bands, names)
        pixels = _read_photo(path)
        _check_count(path, len(pixels), names)
        return pixels[list(bands)] if bands else pixels
    except FileNotFoundError:
        raise RsPruneError(f"{path}: no such file") from None
    except (RuntimeError, RasterioError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise PassingFault(f"{path}: cannot be read just now ({error.strerror}); run it again") from error
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, RasterioError):
            raise RsPruneError(f"{path}: cannot be read ({error.strerror})") from error
        raise RsPruneError(
            f"{path}: not a readable image (damaged, empty or of another kind); mend or remove it, or "
            "dataset.on_error=skip"
        ) from error


def first_readable(root: Path, files: Sequence[str], on_error: str) -> Pixels:
    """The first image; with `on_error` of `skip`, the first that can be read.

    Raises:
        RsPruneError: When it cannot be read, or none can.
    """
    for file in files:
        try:
            return read(root / file)
        except RsPruneError:
            if on_error != "skip":
                raise
    raise RsPruneError(f"{root}: none of the {len(files)} images can be read")


def _read_photo(path: Path) -> Pixels:
    data = path.read_bytes()
    if simplejpeg.is_jpeg(data):
        if b"\xff\xd9" not in data[-64:]:
            raise ValueError("the JPEG ends before its end marker")  # libjpeg would fill the rest with grey
        with suppress(ValueError):  # a rare sampling of colours; damage is torchvision's to name
            if simplejpeg.decode_jpeg_header(data)[2] not in FOUR_INKS:
                photo: Pixels = simplejpeg.decode_jpeg(data)  # torchvision's pixels, in half of its time
                return photo.transpose(2, 0, 1)
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels: Pixels = decode_image(raw, mode=ImageReadMode.RGB).numpy()
    return pixels


def _read_tiff(path: Path, bands: Sequence[int], names: Sequence[str]) -> Pixels:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as scene:
            _check_count(path, scene.count, names)
            places = list(bands) or list(range(scene.count))
            pixels = scene.read([place + 1 for place in places])
            missing = np.isnan(pixels) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, bool)
            for band, place in enumerate(places):
                if scene.nodatavals[place] is not None:
                    missing[band] |= pixels[band] == scene.nodatavals[place]
    if missing.all():
        raise RsPruneError(f"{path}: holds nothing but nodata; remove it or dataset.on_error=skip")
    pixels[missing] = 0
    kept: Pixels = np.nan_to_num(pixels) if pixels.dtype.kind == "f" else pixels
    return kept if kept.dtype in (np.uint8, np.uint16) else kept.astype(np.float32)


def _check_count(path: Path, count: int, names: Sequence[str]) -> None:
    if names and count != len(names):
        raise RsPruneError(
            f"{path}: {count} bands where the set has {len(names)} ({', '.join(names)}); remove it or "
            "dataset.on_error=skip"
        )


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Brings (C, H, W) pixels to (height, width), antialiased, in their own type."""
    if pixels.shape[1:] == size:
        return pixels
    image = torch.from_numpy(pixels.astype(np.float32))[None]
    scaled: Pixels = F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)[0].numpy()
    if pixels.dtype == np.uint8 or pixels.dtype == np.uint16:
        scaled = np.clip(np.rint(scaled), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return scaled
