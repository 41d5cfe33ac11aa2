"""Fake scenes, the command line in process, and the real images where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.io import write_jpeg, write_png

TINY = ("dataset=folder", "model=timm", "model.name=test_resnet", "trainer=cpu", "threads=1", "logger=none")
TINY_RUN = (*TINY, "batch_size=8", "epochs=2", "finetune_epochs=1", "latency.seconds=0.01", "observe.images=16")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 20 scenes; read only."""
    return paint(tmp_path_factory.mktemp("scenes") / "stripes")


@dataclass
class Answer:
    status: int
    out: str
    err: str


@pytest.fixture
def rs_prune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Runs `rs-prune …` in process, in an empty folder that is no checkout."""
    from rs_prune.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Answer:
        capfd.readouterr()
        status = main(words)
        out, err = capfd.readouterr()
        return Answer(status, out, err)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real data sets; tests that need it are skipped where there is none."""
    folder = os.environ.get("RS_PRUNE_DATA")
    if not folder or not (Path(folder) / "eurosat_rgb").is_dir():
        pytest.skip("RS_PRUNE_DATA does not point at a folder with eurosat_rgb/")
    return Path(folder)
