"""Scenes decoded: one by one, or as they are asked for; and their statistics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from rs_prune.contracts import Scenes
from rs_prune.errors import PassingFault, RsPruneError
from rs_prune.scenes.bands import scaled
from rs_prune.scenes.reading import Pixels, read_scene, resize


@cache
def threads() -> ThreadPoolExecutor:
    """The threads of this process that decode."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="decode")


def scene(scenes: Scenes, file: str) -> Pixels:
    """Decodes one scene and brings it to the set's size.

    Returns:
        (stored bands, H, W).

    Raises:
        RsPruneError: When the file cannot be decoded or has other bands than the set. The line begins with its path.
    """
    return resize(read_scene(scenes, file), scenes.size)


def scene_or_line(scenes: Scenes, file: str) -> Pixels | str:
    """A scene as above; where it cannot be decoded and `on_error` is `skip`, the line that says why."""
    try:
        return scene(scenes, file)
    except PassingFault:
        raise
    except RsPruneError as error:
        if scenes.on_error != "skip":
            raise
        return str(error)


def first_readable(scenes: Scenes) -> Pixels:
    """The first scene that can be decoded; none before it is passed over unless `on_error` is `skip`."""
    for file in scenes.files:
        try:
            return scene(scenes, file)
        except RsPruneError:
            if scenes.on_error != "skip":
                raise
    raise nothing_readable(scenes)


def chosen(scenes: Scenes, indices: Sequence[int]) -> Scenes:
    """The set with these files alone."""
    return replace(
        scenes,
        files=tuple(scenes.files[index] for index in indices),
        labels=tuple(scenes.labels[index] for index in indices),
    )


def nothing_readable(scenes: Scenes) -> RsPruneError:
    return RsPruneError(f"{scenes.root}: none of the {len(scenes.files)} images can be read")


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """Scenes that are decoded each time they are asked for; stands where an array (N, C, H, W) would.

    Attributes:
        scenes: All of them can be read.
        shape: (N, stored bands, H, W).
        dtype: Of the stored values.
    """

    scenes: Scenes
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.generic]:
        """(n,) indices -> (n, C, H, W)."""
        out = np.empty((len(index), *self.shape[1:]), self.dtype)

        def one(place: int) -> None:
            out[place] = scene(self.scenes, self.scenes.files[index[place]])

        list(threads().map(one, range(len(index))))
        return out


Images = NDArray[np.generic] | Streamed
"""Decoded scenes (N, C, H, W): an array, in memory or mapped from a file, or decoded on demand."""


def statistics(scenes: Scenes, pixels: Images, indices: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per band over the images in `indices`, after scaling.

    Float64 throughout, a few images at a time. They are added up in one fixed order (values of an image, images of
    256, those sums), so that the result has the same bits whatever is held at a time.

    Raises:
        RsPruneError: When a band is constant: it carries nothing and cannot be normalised.
    """
    total = square = np.zeros(len(scenes.bands))
    for start in range(0, len(indices), 256):
        part = np.asarray(indices[start : start + 256])
        step = 256 if len(scenes.bands) == 1 else 16  # numpy adds up one band's images as a single long row
        sums, squares = [], []
        for first in range(0, len(part), step):
            values = scaled(scenes, torch.from_numpy(pixels[part[first : first + step]].astype(np.float64))).numpy()
            rows = values.reshape(1 if step == 256 else len(values), len(scenes.bands), -1)
            sums.append(rows.sum(2))
            squares.append((rows**2).sum(2))
        total = total + np.concatenate(sums).sum(0)
        square = square + np.concatenate(squares).sum(0)
    count = len(indices) * scenes.size[0] * scenes.size[1]
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    if (std < 1e-12).any():
        raise RsPruneError(f"band {scenes.bands[int(std.argmin())]}: constant over the training part; leave it out")
    return tuple(mean.tolist()), tuple(std.tolist())
