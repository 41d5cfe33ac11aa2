"""Fake scenes and the words of a tiny run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision.io import write_jpeg, write_png

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
