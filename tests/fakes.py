"""Fake scenes and the words of a tiny run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.io import write_jpeg, write_png

from rs_prune.contracts import Scenes
from rs_prune.scenes.checks import one_type
from rs_prune.scenes.pixels import chosen, nothing_readable, scene_or_line
from rs_prune.scenes.splits import grouped, pixel_digest

TINY = ("dataset=folder", "model=timm", "model.name=test_resnet", "trainer=cpu", "threads=1", "logger=none")
TINY_RUN = (*TINY, "batch_size=8", "epochs=2", "finetune_epochs=1", "latency.seconds=0.01", "observe.images=16")


def paint(folder: Path, *, classes: int = 3, images: int = 20, size: int = 32, seed: int = 0) -> Path:
    """A class-per-folder tree of small PNG and JPEG scenes: stripes of another width for every class, plus noise."""
    draw = np.random.default_rng(seed)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        for number in range(images):
            along = np.arange(size) + draw.integers(size)
            stripes = 90 + 60 * np.sin(along * (label + 1) * 2 * np.pi / size)
            scene = np.broadcast_to(stripes, (3, size, size)) + draw.normal(0, 12, (3, size, size))
            pixels = torch.from_numpy(scene.clip(0, 255).astype(np.uint8))
            if number % 2:
                write_png(pixels, str(folder / f"class{label}" / f"{number:03}.png"))
            else:
                write_jpeg(pixels, str(folder / f"class{label}" / f"{number:03}.jpg"), quality=95)
    return folder


def decode(scenes: Scenes) -> tuple[Scenes, NDArray[np.generic], tuple[str, ...]]:
    """The scenes that can be read, all of them in memory (N, C, H, W), and one line for each that cannot."""
    results = [scene_or_line(scenes, file) for file in scenes.files]
    good = [index for index, result in enumerate(results) if not isinstance(result, str)]
    if not good:
        raise nothing_readable(scenes)
    arrays = [result for result in results if not isinstance(result, str)]
    kind = one_type(scenes, [scenes.files[index] for index in good], [array.dtype for array in arrays])
    pixels = np.empty((len(arrays), *arrays[0].shape), kind)
    for place, array in enumerate(arrays):
        pixels[place] = array
    return chosen(scenes, good), pixels, tuple(result for result in results if isinstance(result, str))


def units(scenes: Scenes, digests: Sequence[str], pixels: NDArray[np.generic]) -> tuple[str, ...]:
    """What `grouped` makes of scenes that are in memory."""
    return grouped(scenes, digests, [pixel_digest(image) for image in pixels])
