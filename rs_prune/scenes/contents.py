"""What is in a data set's files, without reading them again when nothing about them has changed."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np

from rs_prune.contracts import Scenes
from rs_prune.errors import RsPruneError
from rs_prune.results.store import digest, read_json, write_json
from rs_prune.scenes.pixels import chosen
from rs_prune.scenes.splits import content_digests

SETTLED_S = 2.0
"""A file touched more recently may change again without its times showing it: they are that coarse on some systems."""


def contents(scenes: Scenes, cache: Path) -> tuple[Scenes, tuple[str, ...], tuple[str, ...], str]:
    """Content digests, from an index in the cache where every file's size and times are those of the index.

    The index only saves reading: what everything is named after are the digests. Size and times (of the content and
    of the file's entry, which nobody can set back) in nanoseconds are what git trusts, too.

    Args:
        scenes: The indexed images.
        cache: Where the index is kept, if it can be.

    Returns:
        The scenes whose files can be opened, the content digest of each, and one line for each other file (empty
        unless `on_error` is `skip`), and the state that the files were in before any was read.

    Raises:
        RsPruneError: When a file cannot be opened and `on_error` is `raise`.
    """
    root = str(scenes.root)  # paths of tens of thousands of files are put together as text: it is much faster
    missing = [index for index, file in enumerate(scenes.files) if not os.access(f"{root}/{file}", os.R_OK)]
    lines = tuple(f"{scenes.root / scenes.files[index]}: cannot be opened" for index in missing)
    if missing and scenes.on_error != "skip":
        raise RsPruneError(f"{lines[0]} (missing, or not yours to read); dataset.on_error=skip leaves it out")
    if missing:
        gone = set(missing)
        scenes = chosen(scenes, [index for index in range(len(scenes.files)) if index not in gone])
    index_file = cache / "scenes" / f"files-{digest([str(scenes.root.resolve()), scenes.files])}.json"
    state, newest = file_state(scenes)
    try:
        index = read_json(index_file)
        if index["state"] == state and len(index["digests"]) == len(scenes.files):
            return scenes, tuple(index["digests"]), lines, state
    except (OSError, RsPruneError, KeyError, TypeError):
        pass  # there is none yet, or none that can be used: the files are read
    settled = time.time() - newest > SETTLED_S
    try:
        digests = content_digests(scenes)
    except OSError as error:
        raise RsPruneError(f"{error.filename or scenes.root}: cannot be read ({error.strerror})") from error
    if settled:
        with suppress(OSError):  # reading the files again next time is all it costs
            write_json(index_file, {"root": str(scenes.root), "state": state, "digests": digests})
    return scenes, digests, lines, state


def file_state(scenes: Scenes) -> tuple[str, float]:
    """A digest of all files' sizes and times, and the latest time in seconds."""
    try:
        stats = [os.stat(f"{scenes.root}/{file}") for file in scenes.files]  # noqa: PTH116
    except OSError as error:
        raise RsPruneError(f"{error.filename}: cannot be read ({error.strerror})") from error
    numbers = np.array([(found.st_size, found.st_mtime_ns, found.st_ctime_ns) for found in stats], np.int64)
    state = sha256(numbers.tobytes()).hexdigest()
    return state, max((max(found.st_mtime, found.st_ctime) for found in stats), default=0.0)
