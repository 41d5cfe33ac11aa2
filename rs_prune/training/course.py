"""How far a fit has come, and what callbacks that shape a net make of it."""

from __future__ import annotations

import math

import lightning.pytorch as pl
from torch import nn

from rs_prune.errors import RsPruneError


def net_of(pl_module: pl.LightningModule) -> nn.Module:
    """The net under training."""
    net = pl_module.net
    assert isinstance(net, nn.Module)
    return net


def total_steps(trainer: pl.Trainer) -> int:
    """Optimiser steps of the whole fit."""
    return int(trainer.estimated_stepping_batches)


def settled(until: float, epochs: int) -> int:
    """How many epochs it takes until that share of them is over."""
    return math.ceil(until * epochs - 1e-9)


def last_change(total: int, until: float) -> int:
    """The step before which what moves until that share of the steps is over moves for the last time."""
    return min(math.ceil(until * total - 1e-9), total - 1)


def checked_span(start: float, end: float) -> tuple[float, float]:
    """The options `attention.start` and `attention.end`, if they are a span of the training.

    Raises:
        RsPruneError: When they do not rise, or leave [0, 1].
    """
    if not 0 <= start < end <= 1:
        raise RsPruneError(f"attention.start={start}, attention.end={end}: must rise, within 0 and 1")
    return start, end


def share_of(progress: float, start: float, end: float) -> float:
    """How much of the span from `start` to `end` is over at a point of the fit: from 0 to 1."""
    return min(1.0, max(0.0, (progress - start) / (end - start)))


def cubic(keep: float, along: float) -> float:
    """What stays on the way from all to `keep`: fast at first, slowly in the end (Zhu and Gupta 2017, 1710.01878)."""
    return keep + (1 - keep) * (1 - along) ** 3
