"""Decoded scenes, once on disk: one array per data set, mapped into memory and shared by all processes and runs.

`<cache>/scenes/<identity>/` holds `pixels.npy` (N, C, H, W) and `facts.json`, which is written last. The identity is a
digest of the content of every file in order, the size that scenes are brought to, and the bands. Several sets share
`cache_gb`; the array used longest ago makes room. A set that does not fit by itself is decoded as it is asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from rs_prune.contracts import Scenes
from rs_prune.errors import RsPruneError
from rs_prune.results.store import digest, read_json, write_json
from rs_prune.scenes.array import FACTS, MADE_BY, PIXELS, fill, size, survey
from rs_prune.scenes.bands import bands_read
from rs_prune.scenes.contents import contents, file_state
from rs_prune.scenes.pixels import Images, Streamed, chosen, first_readable, nothing_readable

log = logging.getLogger("rs_prune")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A data set's pixels and what is known of its files.

    Attributes:
        scenes: The images that can be read.
        digests: Content digest of each.
        units: One name for images that are identical by bytes or by pixels.
        pixels: (N, C, H, W) as stored.
        skipped: One line for each image that cannot be read.
    """

    scenes: Scenes
    digests: tuple[str, ...]
    units: tuple[str, ...]
    pixels: Images
    skipped: tuple[str, ...]


class _Unfit(Exception):
    """What is in the cache cannot be used; says why, or nothing where there simply is none."""


def decoded(scenes: Scenes, *, cache: Path, gb: float) -> Decoded:
    """Finds the decoded scenes in the cache, or puts them there; other processes wait meanwhile.

    Args:
        scenes: The indexed images.
        cache: The cache folder. Where it cannot be written the scenes are decoded as they are asked for.
        gb: How many GB (10^9 bytes) all arrays of the cache may take together.

    Raises:
        RsPruneError: When a file cannot be read and `on_error` is `raise`, none can, or files change meanwhile.
    """
    scenes, digests, lines, state = contents(scenes, cache)
    if not scenes.files:
        raise nothing_readable(scenes)
    folder = cache / "scenes" / digest([digests, scenes.size, bands_read(scenes)])
    with suppress(_Unfit):
        return _open(folder, scenes, digests, lines, gb)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            try:
                return _open(folder, scenes, digests, lines, gb)
            except _Unfit as reason:
                if str(reason):
                    log.info("%s: %s; made anew", folder, reason)
            facts = _build(folder, scenes, digests, state, gb)
            write_json(folder / FACTS, facts)
            try:
                return _open(folder, scenes, digests, lines, gb)
            except _Unfit:  # another process has made room for its own meanwhile
                return _decoded(facts, scenes, digests, lines, None)
    except OSError as error:
        log.warning(
            "%s: decoded scenes cannot be kept there (%s); they are decoded as they are needed; "
            "set cache=<a folder with room>",
            folder.parent,
            error.strerror or error,
        )
    return _decoded(survey(scenes, digests), scenes, digests, lines, None)


def _open(folder: Path, scenes: Scenes, digests: Sequence[str], lines: Sequence[str], gb: float) -> Decoded:
    """What is there, if it is whole, of this version and of this set."""
    facts, pixels = _facts(folder / FACTS), None
    if size(facts) <= gb * 1e9:
        try:
            mapped = np.lib.format.open_memmap(folder / PIXELS, mode="r")  # refuses what would have to be unpickled
            whole_file = (folder / PIXELS).stat().st_size == mapped.offset + mapped.nbytes
        except FileNotFoundError:
            raise _Unfit from None
        except (ValueError, EOFError) as error:
            raise _Unfit(f"{PIXELS} was cut off or is no array") from error
        if list(mapped.shape) != facts["shape"] or mapped.dtype.str != facts["dtype"] or not whole_file:
            raise _Unfit(f"{PIXELS} does not fit {FACTS}")
        pixels = mapped.view(np.ndarray)
        with suppress(OSError):
            os.utime(folder / PIXELS)  # the array used longest ago is the first to go
    return _decoded(facts, scenes, digests, lines, pixels)


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = read_json(path)
        if facts["made by"] != MADE_BY:
            raise _Unfit("made by another version")
        if facts.keys() >= {"shape", "dtype", "twins", "skipped"}:
            return facts
    except FileNotFoundError:
        raise _Unfit from None
    except (OSError, RsPruneError, KeyError, TypeError):
        pass
    raise _Unfit(f"{path.name} is damaged")


def _decoded(
    facts: dict[str, Any],
    scenes: Scenes,
    digests: Sequence[str],
    lines: Sequence[str],
    pixels: NDArray[np.generic] | None,
) -> Decoded:
    bad = {int(index): reason for index, reason in facts["skipped"].items()}
    lines = [*lines, *(f"{scenes.root / scenes.files[index]}{reason}" for index, reason in bad.items())]
    if bad and scenes.on_error != "skip":  # they were noted by a run that skips
        raise RsPruneError(lines[0])
    good = [index for index in range(len(scenes.files)) if index not in bad]
    kept, digests = chosen(scenes, good) if bad else scenes, tuple(digests[index] for index in good)
    return Decoded(
        scenes=kept,
        digests=digests,
        units=tuple(facts["twins"].get(digest, digest) for digest in digests),
        pixels=Streamed(scenes=kept, shape=tuple(facts["shape"]), dtype=np.dtype(facts["dtype"]))
        if pixels is None
        else pixels,
        skipped=tuple(lines),
    )


def _build(folder: Path, scenes: Scenes, digests: Sequence[str], state: str, gb: float) -> dict[str, Any]:
    """Decodes everything once, into the array if it is to be kept. Memory: a few scenes at a time."""
    for draft in folder.glob(".*.part"):  # of a process that was killed: the lock is ours
        draft.unlink()
    first = first_readable(scenes)
    expected = {"shape": [len(scenes.files), *first.shape], "dtype": first.dtype.str}
    if size(expected) > gb * 1e9:
        log.info(
            "%s: %.1f GB decoded, more than cache_gb=%g; scenes are decoded while training",
            scenes.root, size(expected) / 1e9, gb,
        )  # fmt: skip
        facts = survey(scenes, digests)
        if size(facts) <= gb * 1e9:  # without those that cannot be read
            _make_room(folder, gb * 1e9 - size(facts))
            facts = fill(folder / PIXELS, scenes, digests, facts)
    else:
        log.info("%s: decoded once into %s (%.2f GB)", scenes.root, folder, size(expected) / 1e9)
        _make_room(folder, gb * 1e9 - size(expected))
        facts = fill(folder / PIXELS, scenes, digests, expected)
        if any(facts[key] != expected[key] for key in expected):  # some cannot be read
            facts = fill(folder / PIXELS, scenes, digests, facts)
    if file_state(scenes)[0] != state:
        raise RsPruneError(f"{scenes.root}: files changed while they were read; run it again when they are complete")
    return facts


def _make_room(folder: Path, room: float) -> None:
    """Removes the arrays used longest ago until the others take no more than `room` bytes.

    A process that has one of them mapped keeps it until it ends.
    """
    others = [path for path in folder.parent.glob(f"*/{PIXELS}") if path.parent != folder]
    used = {path: path.stat().st_mtime for path in others}  # touched whenever one is opened
    left = sum(path.stat().st_size for path in others)
    for path in sorted(others, key=lambda path: used[path]):
        if left <= room:
            return
        left -= path.stat().st_size
        path.unlink()
        log.info("%s: removed to keep the cache within cache_gb", path)
