"""Download a data set, verify it and unpack it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from rs_prune.build import build
from rs_prune.contracts import Source
from rs_prune.errors import RsPruneError
from rs_prune.scenes.archive import Progress, download, unpack
from rs_prune.scenes.layout import IMAGES

# What an archive of images may unpack to: a multiple of its own size, and entries besides the images.
GROWTH = 20
SPARE_BYTES = 64 << 20
SPARE_FILES = 10_000


def main(cfg: DictConfig) -> None:
    """Leave the whole data set in its folder, or nothing.

    Args:
        cfg: `dataset` (a choice), `source.url` and `source.checksum` (null: the data set's own), `quiet`.
    """
    dataset = build(cfg.dataset, "dataset")
    source = _source(dataset, cfg)
    root = Path(dataset.folder()).expanduser().resolve()
    console = Console(quiet=cfg.quiet, soft_wrap=True, highlight=False, markup=False)
    try:
        if not _complete(root, source):
            root.parent.mkdir(parents=True, exist_ok=True)
            with _locked(root, console):
                if not _complete(root, source):
                    _fetch(root, source, console)
    except OSError as error:
        raise RsPruneError(f"{root}: cannot be used: {error.strerror or error}") from error
    console.print(f"{root} holds {source.images} images")


def _source(dataset: Any, cfg: DictConfig) -> Source:
    source: Source | None = getattr(dataset, "source", None)
    if source is None:
        raise RsPruneError(
            f"dataset: {type(dataset).__name__} has no download address; put its images, one folder per "
            "class, where dataset.root points"
        )
    given = {key: cfg.source[key] for key in ("url", "checksum") if cfg.source[key] is not None}
    return replace(source, **given)


def _count(folder: Path) -> int:
    return sum(
        name.lower().endswith(IMAGES) and not name.startswith(".") for _, _, names in os.walk(folder) for name in names
    )


def _complete(root: Path, source: Source) -> bool:
    """Whether the data set is there; refuses a root that holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    count = _count(root)
    if count != source.images:
        raise RsPruneError(
            f"{root} holds {count} images, not the {source.images} of the data set; move it away, or set "
            "dataset.root to another folder"
        )
    return True


@contextmanager
def _locked(root: Path, console: Console) -> Iterator[None]:
    lock = FileLock(root.parent / f".rs_prune-{root.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"Waiting for another fetch of {root}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(root: Path, source: Source, console: Console) -> None:
    archive = root.parent / f".rs_prune-{root.name}.{Path(urlsplit(source.url).path).name}"
    folder = root.parent / f".rs_prune-{root.name}.unpacked"
    shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
    console.print(f"Downloading {source.url}")
    with _progress(console) as progress:
        download(source.url, archive, source.checksum, progress=progress)
    console.print("Unpacking")
    try:
        size = archive.stat().st_size
        unpack(
            archive,
            folder,
            limit_files=source.images + SPARE_FILES,
            limit_bytes=GROWTH * size + SPARE_BYTES,
        )
        count = _count(folder / source.folder)
        if count != source.images:
            raise RsPruneError(
                f"{source.url}: holds {count} images in {source.folder or 'its'} folder, not {source.images}"
            )
        if root.exists():
            root.rmdir()
        (folder / source.folder).rename(root)
    except KeyboardInterrupt:
        archive.replace(archive.with_suffix(archive.suffix + ".part"))
        raise
    finally:
        archive.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """A bar on a terminal, elsewhere a line for every tenth."""
    if console.is_terminal:
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Bar(*columns, console=console) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        shown = 0

        def line(done: int, total: int | None) -> None:
            nonlocal shown
            if total and 10 * done // total > shown:
                shown = 10 * done // total
                console.print(f"{10 * shown} % of {total / 1e6:.1f} MB")

        yield line
