"""Train, validation and test parts: stratified, a function of the images' bytes alone.

An image's place depends on its content and the seed, not on its name, the order of the files or
the platform. Byte-identical images are one unit and never fall on both sides.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rs_prune.contracts import Scenes, Split
from rs_prune.errors import RsPruneError
from rs_prune.results.files import write

PARTS = ("train", "val", "test")


def content_digests(scenes: Scenes) -> tuple[str, ...]:
    """SHA-256 of every file's bytes, in the order of `scenes.files`."""

    def digest(file: str) -> str:
        return hashlib.sha256((scenes.root / file).read_bytes()).hexdigest()

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(digest, scenes.files))


def split(scenes: Scenes, digests: Sequence[str], *, train: float, val: float, test: float, seed: int) -> Split:
    """Splits by shares within every class.

    Args:
        scenes: The indexed images.
        digests: Content digest of each.
        train: Share of the training part; the three shares sum to 1.
        val: Share of the validation part.
        test: Share of the test part.
        seed: Another seed, another split.

    Raises:
        RsPruneError: When the shares do not sum to 1, or a class has too few images for them.
    """
    shares = {"train": train, "val": val, "test": test}
    for part, share in shares.items():
        if not 0 < share < 1:
            raise RsPruneError(f"split.{part}={share}: must lie between 0 and 1")
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise RsPruneError(f"split: train + val + test is {sum(shares.values()):g}; the shares must sum to 1")

    units: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    first_label: dict[str, int] = {}
    for index, (label, digest) in enumerate(zip(scenes.labels, digests, strict=True)):
        units[first_label.setdefault(digest, label)][digest].append(index)

    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for label, name in enumerate(scenes.classes):
        of_class = units[label]
        ordered = sorted(of_class, key=lambda digest: _rank(seed, digest))
        sizes = _sizes(sum(map(len, of_class.values())), shares)
        if len(ordered) < len(PARTS) or min(sizes.values()) < 1:
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
