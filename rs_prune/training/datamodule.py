"""Scenes as Lightning and everything else takes them: in batches, normalised.

A mapped array needs no workers: taking a batch out of it is a copy. Scenes that are decoded on demand are decoded in
threads, two batches ahead of the trainer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from rs_prune.contracts import Batch, Device, Scenes, Split
from rs_prune.scenes.bands import normalised
from rs_prune.scenes.load import Loaded
from rs_prune.scenes.pixels import Images, Streamed
from rs_prune.training.augment import dihedral, draws

EVAL_BATCH = 256
AHEAD = 2
"""Batches that are decoded ahead of the one in use."""


class SceneData(pl.LightningDataModule):
    """Scenes with their split.

    Args:
        scenes: The set.
        pixels: (N, C, H, W) scenes, decoded or decoded on demand.
        parts: The split.
        mean: Per band, after scaling.
        std: Per band, after scaling.
        batch_size: Images per training batch, about: an epoch is cut into batches of nearly equal size, so that
            every image is seen exactly once and no batch is tiny.
        seed: Decides order and augmentation.
        flips: Augment by mirroring.
        rotations: Augment by quarter turns.
    """

    def __init__(
        self,
        *,
        scenes: Scenes,
        pixels: Images,
        parts: Split,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        seed: int,
        flips: bool,
        rotations: bool,
    ) -> None:
        super().__init__()
        self.scenes = scenes
        self.parts = parts
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.batch_size = batch_size
        self.seed = seed
        self.flips = flips
        self.rotations = rotations
        self._set = _Scenes(pixels, np.array(scenes.labels, np.int64))

    @classmethod
    def of(cls, loaded: Loaded, *, batch_size: int, seed: int, flips: bool, rotations: bool) -> SceneData:
        """A loaded set as batches; the arguments are those of the class."""
        return cls(
            scenes=loaded.scenes,
            pixels=loaded.pixels,
            parts=loaded.parts,
            mean=loaded.mean,
            std=loaded.std,
            batch_size=batch_size,
            seed=seed,
            flips=flips,
            rotations=rotations,
        )

    @property
    def in_chans(self) -> int:
        return len(self.scenes.bands)

    @property
    def num_classes(self) -> int:
        return len(self.scenes.classes)

    def example(self, device: Device = "cpu") -> Tensor:
        """(1, C, H, W) zeros of the shape that nets see."""
        return torch.zeros(1, self.in_chans, *self.scenes.size, device=device)

    def steps(self) -> int:
        """Batches of one training epoch."""
        return len(_EpochBatches(self.parts.train, self.batch_size, self.seed))

    def train_dataloader(self) -> _Batches:
        return _Batches(self._set, _EpochBatches(self.parts.train, self.batch_size, self.seed))

    def val_dataloader(self) -> _Batches:
        return _Batches(self._set, _Chunks(self.parts.val))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return self._prepare(batch)

    def batches(self, part: str, *, limit: int | None = None, device: Device = "cpu") -> Iterator[Batch]:
        """Normalised, unaugmented batches of a part; with `limit`, of that many of its images, drawn by the seed."""
        indices = np.array(getattr(self.parts, part))
        if limit is not None and limit < len(indices):
            indices = np.sort(_permutation(indices, self.seed, epoch=-1)[:limit])
        for batch in _Batches(self._set, _Chunks(indices)):
            yield self._prepare({name: value.to(device) for name, value in batch.items()})

    def _prepare(self, batch: Batch) -> Batch:
        image = batch["image"]
        if "draw" in batch and (self.flips or self.rotations):
            image = dihedral(image, batch["draw"], flips=self.flips, rotations=self.rotations)
        image = normalised(self.scenes, image, self.mean, self.std)
        return {**batch, "image": image.contiguous(memory_format=torch.channels_last)}


Chosen = tuple[NDArray[np.int64], NDArray[np.int64] | None]
"""Indices of a batch's images; to train, with the number that decides how each is augmented."""


class _Scenes:
    """Gives a whole batch: nothing is collated image by image."""

    def __init__(self, pixels: Images, labels: NDArray[np.int64]) -> None:
        self.pixels = pixels
        self.labels = labels

    def batch(self, chosen: Chosen) -> Batch:
        index, draw = chosen
        pixels = self.pixels[index]
        if pixels.dtype != np.uint8:
            pixels = pixels.astype(np.float32)
        arrays = {"image": pixels, "label": self.labels[index], "index": index, "draw": draw}
        return {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}


class _Batches:
    """What Lightning takes for a data loader: the batches of a sampler, in its order."""

    batch_sampler = None  # it asks for one

    def __init__(self, scenes: _Scenes, sampler: _Chunks | _EpochBatches) -> None:
        self.scenes = scenes
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        if isinstance(self.scenes.pixels, Streamed):
            return _ahead(self.scenes.batch, self.sampler)
        return map(self.scenes.batch, self.sampler)


def _ahead(make: Callable[[Chosen], Batch], chunks: Iterable[Chosen]) -> Iterator[Batch]:
    """Makes batches in order in a thread, at most `AHEAD` before they are taken."""
    waiting: deque[Future[Batch]] = deque()
    worker = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        for chunk in chunks:
            waiting.append(worker.submit(make, chunk))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        worker.shutdown(cancel_futures=True)


class _Chunks(Sampler[Chosen]):
    """The indices in order, in evaluation batches."""

    def __init__(self, indices: Sequence[int] | NDArray[np.int64]) -> None:
        self.indices = np.array(indices, np.int64)

    def __len__(self) -> int:
        return -(-len(self.indices) // EVAL_BATCH)

    def __iter__(self) -> Iterator[Chosen]:
        for start in range(0, len(self.indices), EVAL_BATCH):
            yield self.indices[start : start + EVAL_BATCH], None


class _EpochBatches(Sampler[Chosen]):
    """Every index once, in an order that (seed, epoch) decides. Lightning calls `set_epoch`, at times after `iter`."""

    def __init__(self, indices: Sequence[int], batch_size: int, seed: int) -> None:
        self.indices = np.array(indices, np.int64)
        self.count = max(1, round(len(self.indices) / batch_size))
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Chosen]:
        order = _permutation(self.indices, self.seed, self.epoch)
        draw = _draws(self.seed, self.epoch, order)
        yield from zip(np.array_split(order, self.count), np.array_split(draw, self.count), strict=True)


def _permutation(indices: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    return indices[np.argsort(_draws(seed, epoch + 7919, indices), kind="stable")]


def _draws(seed: int, epoch: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = draws(seed, epoch, torch.from_numpy(indices)).numpy()
    return found
