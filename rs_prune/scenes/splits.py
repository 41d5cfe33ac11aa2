"""Train, validation and test parts: stratified, a function of the images' content alone.

An image's place depends on its content and the seed, not on its name, the order of the files or
the platform. Images that are identical, by bytes or by pixels, are one unit and never fall on both sides.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rs_prune.contracts import Scenes, Split
from rs_prune.errors import RsPruneError
from rs_prune.results.files import write
from rs_prune.scenes.partition import by_block, by_content, by_lists, rank
from rs_prune.scenes.reading import Pixels, read
from rs_prune.scenes.tasks import in_order

PARTS = ("train", "val", "test")


def content_digests(scenes: Scenes) -> tuple[str, ...]:
    """SHA-256 of every file's bytes, in the order of `scenes.files`."""
    return tuple(in_order(partial(_content_digests, str(scenes.root), scenes.files), len(scenes.files)))


def _content_digests(root: str, files: Sequence[str], indices: range) -> list[str]:
    digests = []
    for index in indices:
        with open(f"{root}/{files[index]}", "rb") as file:  # noqa: PTH123 - making a Path takes as long as the digest
            digests.append(hashlib.sha256(file.read()).hexdigest())
    return digests


def grouped(scenes: Scenes, digests: Sequence[str], looks: Sequence[str]) -> tuple[str, ...]:
    """One name for images that are identical by bytes or by pixels: the smallest of their files' digests.

    The pixels are those of the files, whatever size the set is brought to: where scenes look alike at that size,
    their files are read again (which, but for identical images, happens at a few pixels a side).

    Args:
        scenes: The indexed images.
        digests: Content digest of each file.
        looks: What each looks like at the set's size: equal for equal pixels.

    Returns:
        The unit of each image, in the order of `scenes.files`. An image without a twin is its own digest.
    """
    alike: dict[str, dict[str, int]] = defaultdict(dict)
    for index, (look, digest) in enumerate(zip(looks, digests, strict=True)):
        alike[look].setdefault(digest, index)
    unit = {digest: digest for digest in digests}
    for members in alike.values():
        if len(members) > 1:
            twins: dict[str, str] = {}
            for digest in sorted(members):
                with suppress(RsPruneError):  # damaged in a band that is not read: by itself
                    whole = read(scenes.root / scenes.files[members[digest]])
                    unit[digest] = twins.setdefault(pixel_digest(whole), digest)
    return tuple(unit[digest] for digest in digests)


def pixel_digest(pixels: Pixels) -> str:
    header = f"{pixels.dtype.str}{pixels.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def options(words: Mapping[str, Any]) -> dict[str, float]:
    """What `split` takes besides the seed and the share in use, from the words of the configuration."""
    return {key: _number(key, value) for key, value in words.items() if key not in ("seed", "use")}


def in_use(words: Mapping[str, Any]) -> float:
    """The share of the training part that is trained on.

    Raises:
        RsPruneError: When it is none.
    """
    share = _number("use", words["use"])
    if not 0 < share <= 1:
        raise RsPruneError(f"split.use={share}: must be above 0 and up to 1")
    return share


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise RsPruneError(f"split.{key}={'null' if value is None else value}: must be a number") from None


def folder(words: Mapping[str, Any]) -> str:
    """The name of the folder that a split's lists are kept in."""
    name = f"seed{words['seed']}-" + "-".join(f"{words[part]:g}" for part in PARTS if part in words)
    if "lists" in words:
        name = f"lists-{name}"
    if "block_km" in words:
        name += f"-blocks{words['block_km']:g}km"
    return f"{name}-use{words['use']:g}" if words["use"] < 1 else name


def split(
    scenes: Scenes,
    digests: Sequence[str],
    *,
    seed: int,
    val: float,
    train: float | None = None,
    test: float | None = None,
    block_km: float | None = None,
    lists: float = False,
) -> Split:
    """Splits by shares: within every class, or in blocks of neighbouring scenes, or as published lists say.

    Args:
        scenes: The indexed images.
        digests: Content digest, or unit, of each.
        seed: Another seed, another split.
        val: Share of the validation part; 0: none.
        train: Share of the training part; the three shares sum to 1.
        test: Share of the test part.
        block_km: Side of the blocks, each of which lies wholly in one part; None: no blocks.
        lists: Take the parts that the data set brings along, and of the shares only `val`: that of the training
            part, where the lists have no validation part (0: none).

    Raises:
        RsPruneError: When the shares do not sum to 1, or a class has too few images for them.
        DoesNotApply: When the set has no coordinates to make blocks of, or no lists.
    """
    if lists:
        parts = by_lists(scenes, digests, val, seed)
    else:
        shares = _checked(train, val, test)
        if block_km is None:
            parts = by_content(scenes, digests, shares, seed)
        else:
            parts = by_block(scenes, digests, shares, seed, block_km)
    doubles = defaultdict(list)
    for file, digest in zip(scenes.files, digests, strict=True):
        doubles[digest].append(file)
    return Split(
        train=tuple(sorted(parts["train"])),
        val=tuple(sorted(parts.get("val", ()))),
        test=tuple(sorted(parts["test"])),
        duplicates=tuple(sorted(tuple(files) for files in doubles.values() if len(files) > 1)),
    )


def _checked(train: float | None, val: float, test: float | None) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part, share in (("train", train), ("val", val), ("test", test)):
        if share is None or (not 0 < share < 1 and not (part == "val" and share == 0)):
            raise RsPruneError(f"split.{part}={share}: must lie between 0 and 1")
        if share:
            shares[part] = share
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise RsPruneError(f"split: train + val + test is {sum(shares.values()):g}; the shares must sum to 1")
    return shares


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
        of_class[labels[index]].append((rank(seed, digest), index))
    kept = [index for ranked in of_class.values() for _, index in sorted(ranked)[: max(1, round(share * len(ranked)))]]
    return replace(parts, train=tuple(sorted(kept)))


def write_lists(scenes: Scenes, parts: Split, folder: Path) -> None:
    """Writes `train.txt`, `val.txt` and `test.txt`: one relative path a line, sorted."""
    for part in PARTS:
        lines = sorted(scenes.files[index] for index in getattr(parts, part))
        write(folder / f"{part}.txt", ("\n".join(lines) + "\n").encode())
