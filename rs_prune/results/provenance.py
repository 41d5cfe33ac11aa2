"""Where a number comes from: versions, commit, machine, time."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "timm", "lightning", "torch-pruning", "rasterio", "hydra-core", "numpy")


def versions() -> dict[str, str]:
    """Version of Python, of this package and of the libraries that numbers depend on."""
    found = {"python": platform.python_version(), "rs_prune": metadata.version("rs-prune")}
    return found | {name: metadata.version(name) for name in PACKAGES}


def git() -> dict[str, Any]:
    """Commit of the checkout this package runs from, and whether files differ from it; empty for a wheel."""
    folder = Path(__file__).resolve().parent

    def ask(*words: str) -> str | None:
        try:
            answer = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None

    tracked = ask("ls-files", "--error-unmatch", Path(__file__).name)
    commit = ask("rev-parse", "HEAD") if tracked else None
    if commit is None:
        return {}
    return {"commit": commit, "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}


def hardware(device: torch.device) -> dict[str, Any]:
    """Processor, accelerator and threads."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


class Clock:
    """Adds the seconds of a block to one entry of a dict; what runs within another block is not counted twice.

    Args:
        times: Stage -> seconds.
        stage: The entry.
        running: The stages whose blocks are open, outermost first; shared by the clocks of one run.
    """

    def __init__(self, times: dict[str, float], stage: str, running: list[str]) -> None:
        self.times = times
        self.stage = stage
        self.running = running

    def __enter__(self) -> None:
        self.running.append(self.stage)
        self.started = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        took = time.monotonic() - self.started
        self.running.pop()
        self.times[self.stage] = self.times.get(self.stage, 0.0) + took
        if self.running:
            self.times[self.running[-1]] = self.times.get(self.running[-1], 0.0) - took
