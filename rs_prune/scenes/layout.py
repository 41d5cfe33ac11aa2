"""Class-per-folder trees: which files there are and which class each belongs to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rs_prune.errors import RsPruneError

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def data_root(root: str | os.PathLike[str] | None, folder: str) -> Path:
    """The data set's own folder: `dataset.root`, or `folder` below RS_PRUNE_DATA.

    Raises:
        RsPruneError: When neither says where the images are.
    """
    if root is not None:
        return Path(root).expanduser()
    parent = os.environ.get("RS_PRUNE_DATA")
    if not parent:
        raise RsPruneError(
            f"dataset.root: nothing says where the images are; set dataset.root=<folder>, or RS_PRUNE_DATA to "
            f"the folder that holds {folder}/"
        )
    return Path(parent).expanduser() / folder


def class_folders(
    root: Path, classes: Sequence[str] | None = None
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
    """Lists a tree of one folder per class.

    Args:
        root: The folder that holds the class folders.
        classes: The class folders expected, in label order; None: every folder that is there, sorted.

    Returns:
        Relative file paths (sorted by class, then name), their labels, and the class names.

    Raises:
        RsPruneError: When the folder is missing or empty, a class is missing or empty, or fewer than two
            classes are there.
    """
    if not root.is_dir():
        raise RsPruneError(f"{root}: no such folder; set dataset.root=<folder with one folder per class>")
    found = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise RsPruneError(f"{root}: holds no class folders; expected one folder per class with images inside")
    if classes is not None:
        missing = [name for name in classes if name not in found]
        if missing:
            raise RsPruneError(f"{root}: class folder {missing[0]} is missing ({len(missing)} of {len(classes)})")
    names = tuple(classes or found)
    if len(names) < 2:
        raise RsPruneError(f"{root}: only one class folder ({names[0]}); a classifier needs at least two")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        inside = sorted(
            f"{name}/{entry.name}"
            for entry in os.scandir(root / name)
            if entry.is_file() and entry.name.lower().endswith(IMAGES) and not entry.name.startswith(".")
        )
        if not inside:
            raise RsPruneError(f"{root / name}: holds no image ({', '.join(IMAGES)})")
        files += inside
        labels += [label] * len(inside)
    return tuple(files), tuple(labels), names
