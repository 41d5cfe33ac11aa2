"""Archives from the net: downloaded so that a break can be resumed, and unpacked without trusting them."""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rs_prune.errors import RsPruneError

CHUNK = 1 << 18
TIMEOUT = 30.0  # seconds of silence before a connection counts as lost
PAUSES = (1.0, 2.0, 4.0)  # seconds before each new attempt
DEPTH = 32  # folders below each other

NETWORK_ERRORS = (OSError, HTTPException, ValueError)
DAMAGE: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, LookupError, RuntimeError)
DAMAGE += (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError)
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # a zip starts with an entry, or has none
OTHER_KINDS = {".rar": (b"Rar!", "unar"), ".7z": (b"7z\xbc\xaf", "7z")}

Progress = Callable[[int, int | None], None]
"""Told (bytes that are there, bytes in all or None)."""


class _BreakError(Exception):
    """The transfer stopped early; another attempt may get further."""


def download(url: str, path: Path, checksum: str, *, progress: Progress | None = None) -> None:
    """Bring the file at `url` to `path`; what a broken attempt left in `<path>.part` is resumed.

    A file that is already at `path` is verified first. After a wrong checksum nothing stays; where
    the net or the disk fails, the part does.
    """
    checksum = checksum.lower()
    kind, _, digest = checksum.partition(":")
    if kind not in ("md5", "sha256") or not digest:
        raise RsPruneError(f"checksum {checksum!r} is neither md5:<hex> nor sha256:<hex>")
    if url.partition(":")[0].lower() not in ("http", "https", "file"):
        raise RsPruneError(f"{url!r} is not an http, https or file address")
    part = path.with_suffix(path.suffix + ".part")
    try:
        if path.exists():
            path.replace(part)
        resumed = part.exists()
        got = _checksum(part, kind) if resumed else ""
        if got != checksum:
            got = _receive(url, part, kind, progress)
        if got != checksum and resumed:  # bytes of two versions of the file may have been joined
            _discard(part)
            got = _receive(url, part, kind, progress)
        if got != checksum:
            _discard(part)
            raise RsPruneError(f"{url}: the checksum should be {checksum} but is {got}; nothing was kept")
        part.replace(path)
        _discard(part)
    except OSError as error:
        raise RsPruneError(f"{part}: cannot be written: {error.strerror or error}") from error


def _checksum(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False))
    return f"{kind}:{digest.hexdigest()}"


def _etag(part: Path) -> Path:
    return part.with_suffix(part.suffix + ".etag")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag(part).unlink(missing_ok=True)


def _receive(url: str, part: Path, kind: str, progress: Progress | None) -> str:
    """Fill `part`, with a few attempts, and return its checksum."""
    pauses = () if url.lower().startswith("file:") else PAUSES
    for pause in (*pauses, None):
        try:
            _transfer(url, part, progress)
            break
        except _BreakError as error:
            if pause is None:
                raise RsPruneError(f"{url}: {error}; run the same command again to resume") from error
            time.sleep(pause)
    return _checksum(part, kind)


def _transfer(url: str, part: Path, progress: Progress | None) -> None:
    """Append to `part` what is missing, or write it anew where the server cannot resume it."""
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "rs_prune"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if _etag(part).exists():
            headers["If-Range"] = _etag(part).read_text()
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and done:
            _discard(part)
        elif error.code < 500 and error.code not in (408, 425, 429):
            raise RsPruneError(f"{url}: HTTP {error.code} {error.reason}") from error
        raise _BreakError(f"HTTP {error.code} {error.reason}") from error
    except NETWORK_ERRORS as error:
        raise _BreakError(str(error)) from error
    with response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != done:
                _discard(part)
                raise _BreakError("the server sent another range than it was asked for")
            total = int(span[2]) if span[2] != "*" else total and done + total
        else:
            done = 0
        with part.open("ab" if done else "wb") as file:
            etag = response.headers.get("ETag", "")
            _etag(part).unlink(missing_ok=True)
            if etag.startswith('"'):  # a weak one (W/"…") does not promise equal bytes
                _etag(part).write_text(etag)
            while chunk := _read(response):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
    if total is not None and done != total:
        raise _BreakError(f"the connection ended after {done} of {total} bytes")


def _read(response: IO[bytes]) -> bytes:
    try:
        return response.read1(CHUNK)  # type: ignore[attr-defined, no-any-return]
    except NETWORK_ERRORS as error:
        raise _BreakError(str(error)) from error


def unpack(archive: Path, folder: Path, *, limit_files: int, limit_bytes: int) -> None:
    """Unpack a zip or tar archive into `folder`, which must be new or empty.

    Only plain files and folders inside `folder` are written, without owners, modes and times. An archive
    that holds anything else, more than `limit_files` entries, or more than `limit_bytes` bytes (counted as
    they are written) is refused, and then `folder` is removed.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RsPruneError(f"{folder} exists and is not an empty folder")
    with archive.open("rb") as file:
        start = file.read(4)
    for suffix, (magic, tool) in OTHER_KINDS.items():
        if start == magic or archive.suffix.lower() == suffix:
            raise RsPruneError(f"{archive}: unpack {suffix} archives yourself, with {tool}")
    entries = written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (_zip if start in ZIP else _tar)(archive):
            entries += 1
            if entries > limit_files:
                raise RsPruneError(f"{archive}: holds more than {limit_files} entries")
            path = folder / _inside(name)
            (path.parent if content else path).mkdir(parents=True, exist_ok=True)
            if content:
                with content, path.open("xb") as target:  # x: no entry may replace an earlier one
                    while chunk := content.read(CHUNK):
                        written += len(chunk)
                        if written > limit_bytes:
                            raise RsPruneError(f"{archive}: holds more than {limit_bytes} bytes")
                        target.write(chunk)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, DAMAGE):
            line = next(iter(str(error).splitlines()), type(error).__name__).rstrip(":")
            raise RsPruneError(f"{archive}: cannot be unpacked: {line}") from error
        raise


def _inside(name: str) -> PurePosixPath:
    """The relative path that an entry's name stands for."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or PureWindowsPath(name).drive:
        raise ValueError(f"entry {name!r} points out of the folder")
    if len(path.parts) > DEPTH:
        raise ValueError(f"entry {name[:50]!r}… lies more than {DEPTH} folders deep")
    return path


def _zip(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Name and content of each entry; folders have no content."""
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"entry {info.filename!r} is neither a file nor a folder")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile expands the other methods without a bound on memory
                raise ValueError(f"entry {info.filename!r} is neither stored nor deflated")
            yield info.orig_filename, None if info.is_dir() else file.open(info)


def _tar(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Like `_zip`."""
    with tarfile.open(archive) as file:
        for info in file:
            if not (info.isreg() or info.isdir()):
                raise ValueError(f"entry {info.name!r} is neither a file nor a folder")
            yield info.name, file.extractfile(info)
        # Two blocks of zeros end a tar; reading on makes gzip and its like check their own ends.
        if file.fileobj is None or file.fileobj.read(CHUNK)[: tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
            raise ValueError("it is cut off: its end mark is missing")
