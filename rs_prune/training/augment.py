"""Augmentation in batches, on the device that trains. A function of (seed, epoch, index) alone.

So a resumed run augments as the undisturbed one would, and the order of the batches does not matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MASK = (1 << 63) - 1


def draws(seed: int, epoch: int, index: Tensor) -> Tensor:
    """(N,) int64 non-negative pseudo-random numbers, one per image (splitmix64, Steele et al. 2014)."""
    z = index.long() + _wrap(seed * 0x9E3779B97F4A7C15) + _wrap(epoch * 0xD1B54A32D192ED03)
    z = (z ^ _shift(z, 30)) * _wrap(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _wrap(0x94D049BB133111EB)
    return (z ^ _shift(z, 31)) & _MASK


def dihedral(images: Tensor, draw: Tensor, *, flips: bool, rotations: bool) -> Tensor:
    """Flips and quarter turns: scenes seen from above have no up.

    Args:
        images: (N, C, H, W). Quarter turns are left out where H differs from W (half turns stay).
        draw: (N,) numbers from `draws`.
        flips: Mirror half of the images left to right.
        rotations: Turn by 0, 90, 180 or 270 degrees.

    Returns:
        A new tensor of the same shape.
    """
    square = images.shape[2] == images.shape[3]
    turns = draw % 4 if rotations else torch.zeros_like(draw)
    if not square:
        turns = turns // 2 * 2
    mirror = (draw // 4) % 2 if flips else torch.zeros_like(draw)
    if images.device.type == "cpu":
        return torch.from_numpy(_one_by_one(images.numpy(), (turns + 4 * mirror).tolist()))
    return _by_symmetry(images, turns, mirror)


def _one_by_one(images: NDArray[Any], codes: list[int]) -> NDArray[Any]:
    """One copy an image, out of a view of it: on a CPU several times faster than PyTorch's copies of views."""
    across = images.swapaxes(2, 3)
    turned = [images, across[:, :, ::-1], images[:, :, ::-1, ::-1], across[..., ::-1]]
    views = turned + [view[..., ::-1] for view in turned]
    out = np.empty_like(images)
    for place, code in enumerate(codes):
        out[place] = views[code][place]
    return out


def _by_symmetry(images: Tensor, turns: Tensor, mirror: Tensor) -> Tensor:
    """All images of one symmetry at once: few launches on a GPU."""
    out = images.clone()
    for turn in range(4):
        for flip in range(2):
            chosen = (turns == turn) & (mirror == flip)
            if (turn or flip) and bool(chosen.any()):
                part = torch.rot90(images[chosen], turn, (2, 3))
                out[chosen] = part.flip(3) if flip else part
    return out


def _wrap(value: int) -> int:
    """The value modulo 2^64 as a signed 64-bit integer."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
