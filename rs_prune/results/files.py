"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a draft to write; it takes the path's place at the end, and is gone after an error.

    A kill leaves at most a hidden `.part` file, never half of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write(path: Path, content: bytes) -> Path:
    """Writes a whole file or none; gives the path back."""
    with whole(path) as draft:
        draft.write_bytes(content)
    return path
