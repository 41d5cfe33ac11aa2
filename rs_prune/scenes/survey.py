"""What the files of a set really hold: every one is read once, and none stops the survey."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from rs_prune.contracts import Scenes
from rs_prune.errors import RsPruneError
from rs_prune.scenes.reading import TIFF, read, resize
from rs_prune.scenes.splits import pixel_digest
from rs_prune.scenes.tasks import in_order


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One file.

    Attributes:
        file: Its path below the set's root.
        error: Why it cannot be read; None where it can. The rest then says nothing.
        shape: (bands, height, width) as stored.
        dtype: Of the values as the reader gives them.
        low: (bands,) smallest stored value.
        high: (bands,) largest.
        total: (bands,) sum of the stored values, at the set's size.
        square: (bands,) sum of their squares.
        look: Digest of the pixels as stored.
        content: Digest of the file's bytes.
        crs: Such as EPSG:32633; None for a file without.
    """

    file: str
    error: str | None = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    low: Any = None
    high: Any = None
    total: Any = None
    square: Any = None
    look: str = ""
    content: str = ""
    crs: str | None = None

    @property
    def empty(self) -> bool:
        """Whether every pixel is nodata or 0."""
        if self.error:
            return "nothing but nodata" in self.error  # as the reader says it
        return not self.low.any() and not self.high.any()


def survey(scenes: Scenes) -> list[Seen]:
    """Reads every file once, in the order of `scenes.files`. Memory: a few images at a time."""
    return list(in_order(partial(_looks, scenes), len(scenes.files)))


def _looks(scenes: Scenes, indices: range) -> list[Seen]:
    return [_look(scenes, scenes.files[index]) for index in indices]


def _look(scenes: Scenes, file: str) -> Seen:
    path = scenes.root / file
    try:
        pixels = read(path)
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    except (RsPruneError, OSError) as error:
        return Seen(file=file, error=str(error))
    sized = resize(pixels, scenes.size).astype(np.float64)
    return Seen(
        file=file,
        shape=pixels.shape,
        dtype=pixels.dtype.name,
        low=pixels.min((1, 2)),
        high=pixels.max((1, 2)),
        total=sized.sum((1, 2)),
        square=(sized**2).sum((1, 2)),
        look=pixel_digest(pixels),
        content=content,
        crs=_crs(path),
    )


def _crs(path: Path) -> str | None:
    if path.suffix.lower() not in TIFF:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as scene:
            return None if scene.crs is None else str(scene.crs.to_string())


def units(seen: Sequence[Seen]) -> tuple[str, ...]:
    """One name for files of equal pixels, as `rs_prune.scenes.splits.units` gives it."""
    first: dict[str, str] = {}
    for one in seen:
        first[one.look] = min(one.content, first.get(one.look, one.content))
    return tuple(first[one.look] for one in seen)


def common(seen: Sequence[Seen]) -> tuple[int, str]:
    """The number of bands and the type of values that most files have."""
    counts = Counter((one.shape[0], one.dtype) for one in seen)
    return min(counts, key=lambda kind: (-counts[kind], kind))


def moments(seen: Sequence[Seen], scenes: Scenes) -> dict[str, list[float]]:
    """Mean and standard deviation per band over files of equal kind, after scaling, at the set's size."""
    pixels = len(seen) * scenes.size[0] * scenes.size[1]
    total: NDArray[np.float64] = np.sum([one.total for one in seen], 0) / pixels * scenes.scale
    square: NDArray[np.float64] = np.sum([one.square for one in seen], 0) / pixels * scenes.scale**2
    return {"mean": total.tolist(), "std": np.sqrt(np.maximum(square - total**2, 0)).tolist()}
