"""Latency, measured while no other worker of rs_prune computes on this machine."""

from __future__ import annotations

import fcntl
import getpass
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer


def measure_latency(net: nn.Module, example: Tensor, *, batch: int, threads: int, seconds: float) -> dict[str, float]:
    """Median and interquartile range of a forward pass, in milliseconds, on an otherwise idle machine.

    Args:
        net: The net, on the device that counts.
        example: (1, C, H, W) input on the same device.
        batch: How often the input is repeated.
        threads: CPU threads.
        seconds: How long to measure.
    """
    net = net.to(memory_format=torch.channels_last).eval()
    example = example.repeat(batch, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    with machine_alone(), torch.inference_mode():
        timer = Timer("net(example)", globals={"net": net, "example": example}, num_threads=threads)
        timer.timeit(3)
        result = timer.blocked_autorange(min_run_time=seconds)
    return {
        "median_ms": result.median * 1e3,
        "iqr_ms": result.iqr * 1e3,
        "threads": threads,
        "batch": batch,
    }


@contextmanager
def machine_shared() -> Iterator[None]:
    """Held while training. Waits for measurements under way or announced."""
    with _flock("turn", fcntl.LOCK_SH):
        machine = _flock("machine", fcntl.LOCK_SH)
        machine.__enter__()
    try:
        yield
    finally:
        machine.__exit__(None, None, None)


@contextmanager
def machine_alone() -> Iterator[None]:
    """Held while measuring. Announces itself, so that trainers let it through at their next batch."""
    with _flock("turn", fcntl.LOCK_EX), _flock("machine", fcntl.LOCK_EX):
        yield


@contextmanager
def _flock(name: str, mode: int) -> Iterator[None]:
    """A lock of this user on this machine; the kernel releases it when the process dies."""
    folder = Path(tempfile.gettempdir()) / f"rs_prune-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, mode)
        yield
