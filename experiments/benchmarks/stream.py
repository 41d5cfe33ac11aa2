"""Memory of training on more scenes than the cache may hold: 20,000 of 256 pixels with `cache_gb=1`, and 5,000.

The scenes are generated as JPEG (crops of noise at several scales; 3.9 GB decoded), and take one epoch of a tiny net
each, in a process of its own: hashed, decoded for what is to be known, measured, trained on, validated. The memory of
that process and its workers (what they share counted once) is noted every half second. The smaller set is given a
quarter of the bound, so that both are decoded while training.

    python experiments/benchmarks/stream.py
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from torchvision.io import write_jpeg

from rs_prune.results.provenance import hardware

SIZE = 256
SETS = {5_000: 0.25, 20_000: 1.0}
CLASSES = 5


def generate(root: Path, images: int) -> None:
    torch.manual_seed(0)
    texture = sum(
        F.interpolate(torch.randn(1, 3, 1536 // cell, 1536 // cell), size=(1536, 1536), mode="bilinear") * cell**0.5
        for cell in (4, 16, 64, 256)
    )
    assert isinstance(texture, torch.Tensor)
    pixels = (texture[0] * 8 + 120).clamp(0, 255).to(torch.uint8)
    places = torch.randint(0, 1536 - SIZE, (images, 2)).tolist()
    for number, (top, left) in enumerate(places):
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        tint = 20 * (number % CLASSES)
        crop = pixels[:, top : top + SIZE, left : left + SIZE].clone()
        crop[0].clamp_(max=255 - tint).add_(tint)
        crop[:, 0, :4] = torch.tensor([number >> shift & 255 for shift in (0, 8, 16, 24)], dtype=torch.uint8)
        write_jpeg(crop, str(folder / f"{number:05}.jpg"), quality=80)


def memory() -> float:
    """Proportional set sizes of this process and its workers, in MB."""
    total = 0
    for process in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
        with suppress(OSError):  # a worker that has just ended
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def train(root: Path, cache: Path, cache_gb: float) -> None:
    """One epoch, in a process of its own; prints memory in MB over time as JSON."""
    import timm

    from rs_prune.dataset.folder import Folder
    from rs_prune.scenes.load import load
    from rs_prune.scenes.pixels import Streamed
    from rs_prune.training.datamodule import SceneData
    from rs_prune.training.fit import Recipe, fit

    torch.set_num_threads(1)
    started, notes, stage, done = time.monotonic(), [], ["import"], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            notes.append((time.monotonic() - started, stage[0], memory()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    stage[0] = "load"
    shares = {"train": 0.6, "val": 0.1, "test": 0.3}
    found = load(Folder(root=str(root)), identity="x", shares=shares, seed=0, cache=cache, cache_gb=cache_gb)
    assert isinstance(found.pixels, Streamed)
    data = SceneData.of(
        found,
        batch_size=32,
        seed=0,
        flips=True,
        rotations=True,
    )
    stage[0] = "train"
    recipe = Recipe(
        loss=F.cross_entropy,
        optimizer=partial(torch.optim.SGD, lr=0.01),
        warmup=0.25,
        selection="val",
        seed=0,
        trainer={"accelerator": "cpu", "devices": 1, "precision": "32-true"},
        quiet=True,
    )
    net = timm.create_model("test_resnet", num_classes=CLASSES)
    history = fit(
        net, data, epochs=1, recipe=recipe, folder=cache / "fit", label="benchmark", logger=lambda: False
    )  # fmt: skip
    done.set()
    watcher.join()
    peak = max(mb for _, _, mb in notes)
    print(json.dumps({"peak_mb": peak, "seconds": time.monotonic() - started, "notes": notes, "history": history}))


def measured(folder: Path, images: int, cache_gb: float) -> dict[str, Any]:
    root = folder / f"{images}"
    generate(root, images)
    words = [sys.executable, __file__, str(root), str(folder / f"cache{images}"), str(cache_gb)]
    found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    notes = found["notes"]
    by_stage = {stage: max(mb for _, at, mb in notes if at == stage) for stage in ("load", "train")}
    tenths = [notes[len(notes) * part // 20] for part in range(20)]
    return {
        "decoded_gb": images * 3 * SIZE * SIZE / 1e9,
        "cache_gb": cache_gb,
        "cache_on_disk_mb": sum(file.stat().st_size for file in (folder / f"cache{images}").rglob("*.*")) / 1e6,
        "peak_mb": found["peak_mb"],
        "peak_mb_by_stage": by_stage,
        "over_time": [{"s": round(at), "stage": stage, "mb": round(mb)} for at, stage, mb in tenths],
        "seconds": found["seconds"],
        "train_loss": found["history"][0]["loss"],
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sets = {f"{images}": measured(Path(folder), images, gb) for images, gb in SETS.items()}
    small, large = sets.values()
    result = {
        "size": SIZE,
        "net": "test_resnet, batch 32",
        "sets": sets,
        "peak_ratio": large["peak_mb"] / small["peak_mb"],
        "hardware": hardware(torch.device("cpu")),
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
    else:
        main()
