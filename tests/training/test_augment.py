"""Augmentation: the eight symmetries of a square, decided by (seed, epoch, index) and nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from rs_prune.training.augment import _by_symmetry, dihedral, draws

WORD = (1 << 64) - 1


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def symmetries(image: np.ndarray) -> list[np.ndarray]:
    """All eight, in the order of the draws: quarter turns first, then each of them mirrored left to right."""
    turned = [np.rot90(image, turn, (1, 2)) for turn in range(4)]
    return turned + [np.flip(image, 2) for image in turned]


def all_draws(count: int = 8) -> Tensor:
    return torch.arange(count)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_all_eight_symmetries_against_numpy(dtype: torch.dtype) -> None:
    image = torch.arange(2 * 3 * 3).view(2, 3, 3).to(dtype)
    batch = image.repeat(8, 1, 1, 1)
    out = dihedral(batch, all_draws(), flips=True, rotations=True)
    assert out.dtype == dtype
    expected = symmetries(image.numpy())
    for got, want in zip(out.numpy(), expected, strict=True):
        np.testing.assert_array_equal(got, want)
    assert len({got.tobytes() for got in out.numpy()}) == 8
    assert torch.equal(batch, image.repeat(8, 1, 1, 1))  # the input stays as it was
    out[0] += 1
    assert torch.equal(batch[0], image)


def test_each_image_takes_its_own_draw() -> None:
    images = torch.randn(20, 3, 5, 5)
    draw = torch.randint(0, 1 << 40, (20,))
    out = dihedral(images, draw, flips=True, rotations=True)
    for image, value, got in zip(images, draw.tolist(), out, strict=True):
        np.testing.assert_array_equal(got.numpy(), symmetries(image.numpy())[value % 8])


@pytest.mark.parametrize(
    ("flips", "rotations", "allowed"),
    [(False, False, {0}), (False, True, {0, 1, 2, 3}), (True, False, {0, 4}), (True, True, set(range(8)))],
)
def test_switches(flips: bool, rotations: bool, allowed: set[int]) -> None:
    image = torch.randn(1, 4, 4)
    known = {got.tobytes(): number for number, got in enumerate(symmetries(image.numpy()))}
    draw = draws(0, 0, torch.arange(200))
    out = dihedral(image.repeat(200, 1, 1, 1), draw, flips=flips, rotations=rotations)
    assert {known[got.tobytes()] for got in out.numpy()} == allowed


def test_an_oblong_scene_keeps_its_shape() -> None:
    image = torch.randn(2, 3, 5)
    out = dihedral(image.repeat(64, 1, 1, 1), all_draws(64), flips=True, rotations=True)
    assert out.shape == (64, 2, 3, 5)
    known = {np.ascontiguousarray(got).tobytes(): n for n, got in enumerate(symmetries(image.numpy())) if n % 2 == 0}
    assert len(known) == 4
    assert {known[got.tobytes()] for got in out.numpy()} == {0, 2, 4, 6}


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 3, 5)])
def test_the_ways_of_a_cpu_and_of_a_gpu_give_the_same(shape: tuple[int, int, int]) -> None:
    images, draw = torch.randn(40, *shape), torch.randint(0, 1 << 40, (40,))
    turns, mirror = draw % 4, (draw // 4) % 2
    if shape[1] != shape[2]:
        turns = turns // 2 * 2
    got = dihedral(images, draw, flips=True, rotations=True)
    assert torch.equal(_by_symmetry(images, turns, mirror), got)


def splitmix64(state: int) -> int:
    """Steele, Lea, Flood 2014, without the increment, in Python's integers."""
    state &= WORD
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & WORD
    return state ^ (state >> 31)


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 0), (0, 1), (123, 45), (2**31, 7000), (5, -1)])
def test_draws_are_splitmix64(seed: int, epoch: int) -> None:
    index = [0, 1, 2, 26_999, 2**40]
    expected = [splitmix64(i + seed * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03) & (WORD >> 1) for i in index]
    assert draws(seed, epoch, torch.tensor(index)).tolist() == expected


def test_a_draw_is_a_function_of_seed_epoch_and_index() -> None:
    index = torch.arange(500)
    order = torch.randperm(500)
    whole = draws(3, 4, index)
    assert torch.equal(draws(3, 4, index[order]), whole[order])
    assert torch.equal(torch.cat([draws(3, 4, part) for part in index.split(7)]), whole)
    assert (whole >= 0).all()
    assert len(whole.unique()) == 500
    state = torch.get_rng_state()
    torch.manual_seed(9)
    assert torch.equal(draws(3, 4, index), whole)
    torch.set_rng_state(state)
    for other in (draws(2, 4, index), draws(3, 5, index), draws(4, 3, index)):
        assert (other % 8 != whole % 8).float().mean() > 0.8


def test_an_image_is_augmented_alike_in_any_batch() -> None:
    images, index = torch.randn(30, 3, 6, 6), torch.arange(30) * 11
    whole = dihedral(images, draws(1, 2, index), flips=True, rotations=True)
    order = torch.randperm(30)
    shuffled = dihedral(images[order], draws(1, 2, index[order]), flips=True, rotations=True)
    assert torch.equal(shuffled, whole[order])
    alone = [dihedral(images[i, None], draws(1, 2, index[i, None]), flips=True, rotations=True) for i in range(30)]
    assert torch.equal(torch.cat(alone), whole)


@pytest.mark.parametrize("seed", [0, 1, 2, 40])
def test_all_eight_occur_about_evenly(seed: int) -> None:
    over_images = draws(seed, 3, torch.arange(16_000)) % 8
    over_epochs = torch.cat([draws(seed, epoch, torch.tensor([5, 6])) for epoch in range(4000)]) % 8
    pairs = (draws(seed, 0, torch.arange(16_000)) % 8) * 8 + draws(seed, 1, torch.arange(16_000)) % 8
    for values, cells in ((over_images, 8), (over_epochs, 8), (pairs, 64)):
        counts = Counter(values.tolist())
        assert len(counts) == cells
        expected = len(values) / cells
        chi2 = sum((count - expected) ** 2 / expected for count in counts.values())
        assert chi2 < cells - 1 + 5 * (2 * (cells - 1)) ** 0.5  # five standard deviations
