"""One pass over a data set: every scene decoded, noted, and written to an array if it is to be kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import rasterio
import torchvision

from rs_prune.contracts import Scenes
from rs_prune.results.files import whole
from rs_prune.scenes.checks import one_type
from rs_prune.scenes.pixels import chosen, in_order, nothing_readable
from rs_prune.scenes.reading import Pixels
from rs_prune.scenes.splits import grouped

FORMAT = 1
"""Raised when decoding comes to give other values, or the files in the cache another meaning."""
MADE_BY = {"format": FORMAT, "torchvision": torchvision.__version__, "rasterio": rasterio.__version__}
PIXELS, FACTS = "pixels.npy", "facts.json"


def fill(path: Path, scenes: Scenes, digests: Sequence[str], expected: dict[str, Any]) -> dict[str, Any]:
    """Writes the array under the shape and type that are expected; what it says in the end is what is true."""
    kind = np.dtype(expected["dtype"])
    with whole(path) as draft, draft.open("wb") as file:
        header = {"descr": kind.str, "fortran_order": False, "shape": tuple(expected["shape"])}
        np.lib.format.write_array_header_1_0(file, header)
        return survey(scenes, digests, lambda image: file.write(np.ascontiguousarray(image, kind).data))


def survey(scenes: Scenes, digests: Sequence[str], write: Callable[[Pixels], Any]) -> dict[str, Any]:
    """Decodes every scene in order, hands it to `write`, and notes what is to be known without decoding again."""
    looks, good, bad, kinds, shape = [], [], {}, [], None
    for index, result in enumerate(in_order(scenes, lambda image: (image, crc32(np.ascontiguousarray(image).data)))):
        if isinstance(result, str):
            bad[str(index)] = result.removeprefix(str(scenes.root / scenes.files[index]))
            continue
        image, look = result
        write(image)
        looks.append(f"{look:08x}")  # scenes that look alike are read again and compared in full
        good.append(index)
        kinds.append(image.dtype)
        shape = image.shape
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


def size(facts: dict[str, Any]) -> int:
    return int(math.prod(facts["shape"]) * np.dtype(facts["dtype"]).itemsize)
