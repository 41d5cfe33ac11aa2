"""One pass over a data set: every scene decoded, noted, and written to an array if it is to be kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import rasterio
import simplejpeg
import torchvision

from rs_prune.contracts import Scenes
from rs_prune.results.files import whole
from rs_prune.scenes.checks import one_type
from rs_prune.scenes.pixels import chosen, nothing_readable, scene_or_line
from rs_prune.scenes.reading import Pixels
from rs_prune.scenes.splits import grouped
from rs_prune.scenes.tasks import in_order

Write = Callable[[dict[int, Pixels]], None]
Note = tuple[str, np.dtype[Any], tuple[int, ...]]

FORMAT = 1
"""Raised when decoding comes to give other values, or the files in the cache another meaning."""
MADE_BY = {
    "format": FORMAT,
    "torchvision": torchvision.__version__,
    "rasterio": rasterio.__version__,
    "simplejpeg": simplejpeg.__version__,
}
PIXELS, FACTS = "pixels.npy", "facts.json"


def fill(path: Path, scenes: Scenes, digests: Sequence[str], expected: dict[str, Any]) -> dict[str, Any]:
    """Writes the array under the shape and type that are expected; what it says in the end is what is true."""
    kind = np.dtype(expected["dtype"])
    good = [index for index in range(len(scenes.files)) if str(index) not in expected.get("skipped", {})]
    with whole(path) as draft:
        with draft.open("wb") as file:
            header = {"descr": kind.str, "fortran_order": False, "shape": tuple(expected["shape"])}
            np.lib.format.write_array_header_1_0(file, header)
            rows = {index: file.tell() + row * (size(expected) // len(good)) for row, index in enumerate(good)}
            file.truncate(file.tell() + size(expected))
        return survey(scenes, digests, partial(_write, draft, kind, rows))


def survey(scenes: Scenes, digests: Sequence[str], write: Write | None = None) -> dict[str, Any]:
    """Decodes every scene, hands some at a time to `write`, and notes what is to be known without decoding again."""
    looks, good, bad, kinds, shape = [], [], {}, [], None
    for index, result in enumerate(in_order(partial(_notes, scenes, write), len(scenes.files))):
        if isinstance(result, str):
            bad[str(index)] = result.removeprefix(str(scenes.root / scenes.files[index]))
            continue
        look, kind, shape = result
        looks.append(look)
        good.append(index)
        kinds.append(kind)
    if shape is None:
        raise nothing_readable(scenes)
    own, kept = [digests[index] for index in good], chosen(scenes, good)
    kind = one_type(scenes, kept.files, kinds)
    units = grouped(kept, own, looks)
    return {
        "made by": MADE_BY,
        "data set": scenes.name,
        "shape": [len(good), *shape],
        "dtype": kind.str,
        "twins": {digest: unit for digest, unit in zip(own, units, strict=True) if digest != unit},
        "skipped": bad,
    }


def _notes(scenes: Scenes, write: Write | None, indices: range) -> list[Note | str]:
    """Look, type and shape of these scenes, or why one cannot be read. Equal looks are compared in full later."""
    notes: list[Note | str] = []
    images = {}
    for index in indices:
        found = scene_or_line(scenes, scenes.files[index])
        if isinstance(found, str):
            notes.append(found)
        else:
            images[index] = np.ascontiguousarray(found)
            notes.append((f"{crc32(images[index].data):08x}", found.dtype, found.shape))
    if write is not None:
        write(images)
    return notes


def _write(path: Path, kind: np.dtype[Any], rows: dict[int, int], images: dict[int, Pixels]) -> None:
    """Puts scenes that follow each other into their rows.

    Where one cannot be read or is of another type, rows are wrong; the survey tells, and all is written again or none.
    """
    if images and all(index in rows and image.dtype == kind for index, image in images.items()):
        with path.open("r+b") as file:
            file.seek(rows[min(images)])
            file.write(b"".join(image.data for image in images.values()))


def size(facts: dict[str, Any]) -> int:
    return int(math.prod(facts["shape"]) * np.dtype(facts["dtype"]).itemsize)
