"""All scenes of a set, decoded once into one array, with their statistics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rs_prune.contracts import Scenes
from rs_prune.errors import RsPruneError
from rs_prune.scenes.bands import scaled
from rs_prune.scenes.checks import one_type
from rs_prune.scenes.reading import read_scene, resize


def decode(scenes: Scenes) -> tuple[Scenes, NDArray[np.generic], tuple[str, ...]]:
    """Decodes every scene and brings it to the set's size.

    Memory: images * bands * height * width * bytes per value; EuroSAT RGB takes 330 MB.

    Returns:
        The scenes that could be read, their pixels (N, C, H, W), and one line for each that could not
        (empty unless `on_error` is `skip`).

    Raises:
        RsPruneError: When a file cannot be decoded or has other bands than the set, and `on_error` is `raise`.
    """

    def one(file: str) -> NDArray[np.generic] | str:
        try:
            return resize(read_scene(scenes, file), scenes.size)
        except RsPruneError as error:
            if scenes.on_error != "skip":
                raise
            return str(error)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = list(pool.map(one, scenes.files))
    good = [index for index, result in enumerate(results) if not isinstance(result, str)]
    if not good:
        raise RsPruneError(f"{scenes.root}: none of the {len(results)} images can be read")
    arrays = [result for result in results if not isinstance(result, str)]
    kind = one_type(scenes, [scenes.files[index] for index in good], [array.dtype for array in arrays])
    pixels = np.empty((len(arrays), *arrays[0].shape), kind)
    for place, array in enumerate(arrays):
        pixels[place] = array
    kept = replace(
        scenes,
        files=tuple(scenes.files[index] for index in good),
        labels=tuple(scenes.labels[index] for index in good),
    )
    return kept, pixels, tuple(result for result in results if isinstance(result, str))


def statistics(
    pixels: NDArray[np.generic], indices: Sequence[int], scenes: Scenes
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per band over the images in `indices`, after scaling.

    Float64 throughout, in chunks: memory stays bounded.

    Raises:
        RsPruneError: When a band is constant: it carries nothing and cannot be normalised.
    """
    total = np.zeros(len(scenes.bands))
    square = np.zeros(len(scenes.bands))
    for start in range(0, len(indices), 256):
        stored = pixels[np.asarray(indices[start : start + 256])].astype(np.float64)
        chunk = scaled(scenes, torch.from_numpy(stored)).numpy()
        total += chunk.sum((0, 2, 3))
        square += (chunk**2).sum((0, 2, 3))
    count = len(indices) * pixels.shape[2] * pixels.shape[3]
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    if (std < 1e-12).any():
        raise RsPruneError(f"band {scenes.bands[int(std.argmin())]}: constant over the training part; leave it out")
    return tuple(mean.tolist()), tuple(std.tolist())
