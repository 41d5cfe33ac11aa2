"""Where results live: digests, records, the cache of dense nets, and the locks between workers."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from rs_prune.contracts import Record
from rs_prune.errors import RsPruneError
from rs_prune.results.files import write

log = logging.getLogger("rs_prune")


def digest(value: Any) -> str:
    """16 hex digits that identify a plain value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: Path, value: Any) -> None:
    """Writes a whole file or none."""
    write(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RsPruneError(f"{path}: not valid JSON ({error}); remove it to have it made anew") from error


def writable(folder: Path, instead: Path) -> Path:
    """The folder if files can be made in it, else the other one, said in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        log.warning("cache=%s: cannot be written (%s); %s is used", folder, error.strerror, instead)
        return instead


class Store:
    """The folders of one `out=` and `cache=`.

    Args:
        out: Records, nets and working folders of the runs.
        cache: Dense nets, shared by all runs.
    """

    def __init__(self, out: Path, cache: Path) -> None:
        self.out = out
        self.cache = cache

    def record_path(self, cell: str) -> Path:
        return self.out / "records" / f"{cell}.json"

    def predictions_path(self, cell: str) -> Path:
        return self.out / "predictions" / f"{cell}.npz"

    def net_folder(self, cell: str) -> Path:
        return self.out / "nets" / cell

    def work_folder(self, cell: str) -> Path:
        """Checkpoints of a run under way; gone once it is recorded."""
        return self.out / "work" / cell

    def dense_folder(self, dense: str) -> Path:
        return self.cache / "dense" / dense

    def finished(self, cell: str) -> bool:
        path = self.record_path(cell)
        return path.exists() and read_json(path)["status"] == "finished"

    def save(self, record: Record) -> Path:
        """Writes the record, then clears the run's working folder."""
        path = self.record_path(record.digest)
        write_json(path, asdict(record))
        shutil.rmtree(self.work_folder(record.digest), ignore_errors=True)
        return path

    def lock(self, folder: Path) -> FileLock:
        """A lock that belongs to a folder; the kernel releases it when its holder dies."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(folder.with_name(f".{folder.name}.lock"))
