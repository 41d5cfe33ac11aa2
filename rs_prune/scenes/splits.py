"""Train, validation and test parts: stratified, a function of the images' content alone.

An image's place depends on its content and the seed, not on its name, the order of the files or
the platform. Images that are identical, by bytes or by pixels, are one unit and never fall on both sides.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rs_prune.contracts import Scenes, Split
from rs_prune.errors import RsPruneError
from rs_prune.results.files import write
from rs_prune.scenes.reading import Pixels, read

PARTS = ("train", "val", "test")


def content_digests(scenes: Scenes) -> tuple[str, ...]:
    """SHA-256 of every file's bytes, in the order of `scenes.files`."""

    def digest(file: str) -> str:
        return hashlib.sha256((scenes.root / file).read_bytes()).hexdigest()

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(digest, scenes.files))


def units(scenes: Scenes, digests: Sequence[str], pixels: NDArray[np.generic]) -> tuple[str, ...]:
    """One name for images that are identical by bytes or by pixels: the smallest of their files' digests.

    The pixels are those of the files, whatever size the set is brought to: where scenes look alike at that size,
    their files are read again (which, but for identical images, happens at a few pixels a side).

    Args:
        scenes: The indexed images.
        digests: Content digest of each file.
        pixels: (N, C, H, W) decoded images, brought to the set's size.

    Returns:
        The unit of each image, in the order of `scenes.files`. An image without a twin is its own digest.
    """
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        looks = list(pool.map(lambda image: _pixel_digest(pixels[image]), range(len(digests))))
    alike: dict[str, dict[str, int]] = defaultdict(dict)
    for index, (look, digest) in enumerate(zip(looks, digests, strict=True)):
        alike[look].setdefault(digest, index)
    unit = {digest: digest for digest in digests}
    for members in alike.values():
        if len(members) > 1:
            twins: dict[str, str] = {}
            for digest in sorted(members):
                unit[digest] = twins.setdefault(
                    _pixel_digest(read(scenes.root / scenes.files[members[digest]])), digest
                )
    return tuple(unit[digest] for digest in digests)


def _pixel_digest(pixels: Pixels) -> str:
    header = f"{pixels.dtype.str}{pixels.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def split(scenes: Scenes, digests: Sequence[str], *, train: float, val: float, test: float, seed: int) -> Split:
    """Splits by shares within every class.

    Args:
        scenes: The indexed images.
        digests: Content digest, or unit, of each.
        train: Share of the training part; the three shares sum to 1.
        val: Share of the validation part; 0: none.
        test: Share of the test part.
        seed: Another seed, another split.

    Raises:
        RsPruneError: When the shares do not sum to 1, or a class has too few images for them.
    """
    shares = {"train": train, "val": val, "test": test}
    for part, share in shares.items():
        if not 0 < share < 1 and not (part == "val" and share == 0):
            raise RsPruneError(f"split.{part}={share}: must lie between 0 and 1")
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise RsPruneError(f"split: train + val + test is {sum(shares.values()):g}; the shares must sum to 1")

    first_label: dict[str, int] = {}
    for label, digest in zip(scenes.labels, digests, strict=True):
        first_label[digest] = min(label, first_label.get(digest, label))
    members: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, digest in enumerate(digests):
        members[first_label[digest]][digest].append(index)

    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for label, name in enumerate(scenes.classes):
        of_class = members[label]
        ordered = sorted(of_class, key=lambda digest: _rank(seed, digest))
        sizes = _sizes(sum(map(len, of_class.values())), shares)
        wanted = [part for part in PARTS if shares[part]]
        if len(ordered) < len(wanted) or min(sizes[part] for part in wanted) < 1:
            raise RsPruneError(
                f"class {name}: {len(ordered)} different images are too few to split "
                f"{train:g}/{val:g}/{test:g}; add images or change split.train, split.val, split.test"
            )
        queue = iter(ordered)
        for part in PARTS:
            taken: list[int] = []
            while len(taken) < sizes[part] and (unit := next(queue, None)) is not None:
                taken += of_class[unit]
            parts[part] += taken
    doubles = defaultdict(list)
    for file, digest in zip(scenes.files, digests, strict=True):
        doubles[digest].append(file)
    return Split(
        train=tuple(sorted(parts["train"])),
        val=tuple(sorted(parts["val"])),
        test=tuple(sorted(parts["test"])),
        duplicates=tuple(sorted(tuple(files) for files in doubles.values() if len(files) > 1)),
    )


def share_of_training(parts: Split, labels: Sequence[int], digests: Sequence[str], share: float, seed: int) -> Split:
    """The split with a share of its training part: the same of every class, at least one image.

    Args:
        parts: The split.
        labels: Class index of each image of the set.
        digests: Content digest of each training image.
        share: What stays, above 0 and up to 1.
        seed: Of the split.
    """
    of_class: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for index, digest in zip(parts.train, digests, strict=True):
        of_class[labels[index]].append((_rank(seed, digest), index))
    kept = [index for ranked in of_class.values() for _, index in sorted(ranked)[: max(1, round(share * len(ranked)))]]
    return replace(parts, train=tuple(sorted(kept)))


def write_lists(scenes: Scenes, parts: Split, folder: Path) -> None:
    """Writes `train.txt`, `val.txt` and `test.txt`: one relative path a line, sorted."""
    for part in PARTS:
        lines = sorted(scenes.files[index] for index in getattr(parts, part))
        write(folder / f"{part}.txt", ("\n".join(lines) + "\n").encode())


def _rank(seed: int, digest: str) -> str:
    return hashlib.sha256(f"{seed}/{digest}".encode()).hexdigest()


def _sizes(count: int, shares: dict[str, float]) -> dict[str, int]:
    """Whole numbers that sum to `count`, by largest remainder."""
    exact = {part: share * count for part, share in shares.items()}
    sizes = {part: int(value + 1e-9) for part, value in exact.items()}
    for part in sorted(PARTS, key=lambda part: sizes[part] - exact[part])[: count - sum(sizes.values())]:
        sizes[part] += 1
    return sizes
