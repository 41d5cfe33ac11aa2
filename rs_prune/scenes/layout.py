"""Class-per-folder trees: which files there are and which class each belongs to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rs_prune.errors import RsPruneError

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
NOT_DATA = "__MACOSX"  # what some archives bring along
WRAPPED = 2  # folders around the class folders that may have siblings
CHAIN = 8  # only children, one in another


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


def find_classes(root: Path, classes: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    """Looks for the folders of known classes, as archives and their users leave them.

    They may lie below wrapping folders, and their names may differ in case and in `_`, `-` or spaces between words.

    Args:
        root: Where to look.
        classes: The class names, in label order.

    Returns:
        The folder that holds the class folders, and their names there, in label order.

    Raises:
        RsPruneError: When no folder, or more than one, holds them all, or two folders have one class's name.
    """
    _must_exist(root)
    best: tuple[int, Path] = (-1, root)
    for level in _levels(root):
        whole: list[tuple[Path, tuple[str, ...]]] = []
        for folder in level:
            named = {name: [sub for sub in _folders(folder) if plain(sub) == plain(name)] for name in classes}
            for name, subs in named.items():
                if len(subs) > 1:
                    raise RsPruneError(f"{folder}: {' and '.join(subs)} are both class {name}; keep one")
            best = max(best, (sum(map(len, named.values())), folder), key=lambda found: found[0])
            if all(named.values()):
                whole.append((folder, tuple(subs[0] for subs in named.values())))
        if len(whole) > 1:
            places = ", ".join(str(folder.relative_to(root)) for folder, _ in whole)
            raise RsPruneError(
                f"{root}: the classes are there more than once ({places}); set dataset.root to one of them"
            )
        if whole:
            return whole[0]
    count, folder = best
    there = {plain(sub) for sub in _folders(folder)}
    missing = [name for name in classes if plain(name) not in there]
    place = folder if count else root
    raise RsPruneError(
        f"{place}: expected one folder for each of {len(classes)} classes; missing: {few(missing)}; "
        f"found: {few(_folders(place)) or 'no folder'}; set dataset.root=<folder that holds them>"
    )


def class_folders(
    root: Path, folders: Sequence[str] | None = None
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
    """Lists a tree of one folder per class.

    Args:
        root: The folder that holds the class folders.
        folders: The class folders, in label order; None: every folder that is there, sorted.

    Returns:
        Relative file paths (sorted by class, then name), their labels, and the folders' names.

    Raises:
        RsPruneError: When the folder is missing or empty, a class is empty, or fewer than two classes are there.
    """
    _must_exist(root)
    names = tuple(_folders(root) if folders is None else folders)
    if not names:
        raise RsPruneError(f"{root}: holds no class folders; expected one folder per class with images inside")
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


def plain(name: str) -> str:
    """A class name without case and separators."""
    return re.sub(r"[\s_-]", "", name).lower()


def few(words: Sequence[str], limit: int = 5) -> str:
    """The first few words, and how many more there are."""
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return ", ".join(words[:limit]) + more


def _must_exist(root: Path) -> None:
    if not root.is_dir():
        raise RsPruneError(f"{root}: no such folder; set dataset.root=<folder with one folder per class>")


def _folders(folder: Path) -> list[str]:
    try:
        entries = list(os.scandir(folder))
    except PermissionError:
        return []
    return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".") and e.name != NOT_DATA)


def _levels(root: Path) -> Iterator[list[Path]]:
    """The folders that may hold the class folders, outermost first. A chain of only children counts as one level."""
    level = [_innermost(root)]
    for _ in range(WRAPPED):
        yield level
        level = [_innermost(folder / name) for folder in level for name in _folders(folder)]
    yield level


def _innermost(folder: Path) -> Path:
    for _ in range(CHAIN):
        if len(inside := _folders(folder)) != 1:
            break
        folder = folder / inside[0]
    return folder
