"""A data set ready to train on: indexed, decoded once on disk, split and measured."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from rs_prune.contracts import Dataset, Scenes, Split
from rs_prune.results.store import digest, read_json, write_json
from rs_prune.scenes.cache import decoded
from rs_prune.scenes.pixels import Images, statistics
from rs_prune.scenes.splits import PARTS, share_of_training, split

log = logging.getLogger("rs_prune")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Scenes with their split and statistics.

    Attributes:
        scenes: The images that could be read.
        pixels: (N, C, H, W) as stored: mapped from the cache, or decoded on demand.
        parts: The split.
        mean: Per band, after scaling: declared, or of the training part.
        std: Likewise.
        skipped: One line for each image that could not be read.
        contents: SHA-256 of every file's bytes, in the order of `scenes.files`.
        fingerprint: Digest of every image's content, label and part: what a result depends on.
    """

    scenes: Scenes
    pixels: Images
    parts: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    skipped: tuple[str, ...]
    contents: tuple[str, ...]
    fingerprint: str


@lru_cache(maxsize=1)
def _load(key: _Key) -> Loaded:
    found = decoded(key.dataset(), cache=key.cache, gb=key.cache_gb)
    scenes, digests = found.scenes, found.digests
    parts = split(scenes, found.units, **dict(key.shares), seed=key.seed)
    if key.use < 1:
        parts = share_of_training(parts, scenes.labels, [digests[index] for index in parts.train], key.use, key.seed)
    if key.limit is not None:
        parts = _thin(parts, scenes.labels, key.limit)
    log.info(
        "%s: %d images of %s, %d classes (%s)",
        scenes.root,
        len(scenes.files),
        "x".join(map(str, (len(scenes.bands), *scenes.size))),
        len(scenes.classes),
        ", ".join(scenes.classes),
    )
    mean, std = scenes.mean, scenes.std
    if mean is None or std is None:
        contents = sorted(digests[index] for index in parts.train)
        mean, std = _statistics(key.cache, scenes, found.pixels, parts.train, contents)
    for line in found.skipped:
        log.warning("skipped %s", line)
    for files in parts.duplicates:
        log.info("identical images, kept in one part: %s", ", ".join(files))
    content = {part: sorted((digests[i], scenes.labels[i]) for i in getattr(parts, part)) for part in PARTS}
    return Loaded(
        scenes=scenes,
        pixels=found.pixels,
        parts=parts,
        mean=mean,
        std=std,
        skipped=found.skipped,
        contents=digests,
        fingerprint=digest([content, scenes.classes, scenes.bands, scenes.size, mean, std]),
    )


@dataclass(frozen=True, kw_only=True)
class _Key:
    """What identifies a load, and beside it what the load is done with; two runs of one sweep share it."""

    identity: str
    shares: tuple[tuple[str, float], ...]
    seed: int
    limit: int | None
    use: float
    dataset: Dataset = field(compare=False)
    cache: Path = field(compare=False)
    cache_gb: float


def load(
    dataset: Dataset,
    *,
    identity: str,
    shares: dict[str, float],
    seed: int,
    cache: Path,
    cache_gb: float = 8.0,
    limit: int | None = None,
    use: float = 1.0,
) -> Loaded:
    """Finds, decodes and splits a data set; the last one stays open for the next run of a sweep.

    Args:
        dataset: Finds the scenes.
        identity: Names the data set and its place on disk: what stays open is keyed by.
        shares: `train`, `val` and `test`, summing to 1.
        seed: Of the split.
        cache: Where decoded scenes are kept, and statistics of data sets that declare none.
        cache_gb: How many GB all decoded sets there may take; larger ones are decoded while training.
        limit: Images per part at most (a few of every class); None: all.
        use: Share of the training part that is trained on, the same of every class.
    """
    shared = tuple(sorted(shares.items()))
    return _load(
        _Key(
            identity=identity,
            shares=shared,
            seed=seed,
            limit=limit,
            use=use,
            cache_gb=cache_gb,
            dataset=dataset,
            cache=cache,
        )
    )


def _statistics(
    cache: Path, scenes: Scenes, pixels: Images, train: Sequence[int], contents: Sequence[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Statistics of the training part, computed once for its content."""
    chosen = [scenes.reads, scenes.channels] if scenes.channels else []
    path = cache / "statistics" / f"{digest([contents, scenes.size, scenes.scale, scenes.bands, *chosen])}.json"
    if path.exists():
        kept = read_json(path)
        return tuple(kept["mean"]), tuple(kept["std"])
    mean, std = statistics(scenes, pixels, train)
    with suppress(OSError):  # computed again next time
        write_json(path, {"data set": scenes.name, "images": len(train), "mean": mean, "std": std})
    return mean, std


def _thin(parts: Split, labels: Sequence[int], limit: int) -> Split:
    """At most about `limit` images of each part, the same number of each class."""
    each = max(1, limit // (max(labels) + 1))

    def few(indices: Sequence[int]) -> tuple[int, ...]:
        seen: dict[int, int] = defaultdict(int)
        kept = []
        for index in indices:
            seen[labels[index]] += 1
            if seen[labels[index]] <= each:
                kept.append(index)
        return tuple(kept)

    return Split(train=few(parts.train), val=few(parts.val), test=few(parts.test), duplicates=parts.duplicates)
