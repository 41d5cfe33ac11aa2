"""The download is resumed, verified and unpacked whole, or leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rs_prune import fetch
from rs_prune.build import build
from rs_prune.contracts import Source
from rs_prune.errors import RsPruneError
from rs_prune.scenes import archive as module
from rs_prune.scenes.archive import download, unpack

IMAGES = 6


class Data:
    """A data set of six images; its address and checksum come from the config."""

    source: Source | None = Source(url="http://127.0.0.1:9/no", checksum="md5:0", folder="inner", images=IMAGES)

    def __init__(self, *, root: str) -> None:
        self.root = root

    def folder(self) -> Path:
        return Path(self.root)


class Sourceless(Data):
    source = None


class Server(ThreadingHTTPServer):
    """Serves `content`; `log` holds (range header, if-range header, status, bytes sent) of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.etag = '"1"'
        self.ranges = True
        self.breaks: list[int] = []
        self.statuses: list[int] = []
        self.at_break: Callable[[], None] = lambda: None
        self.log: list[tuple[str | None, str | None, int, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        server = self.server
        wanted, condition = self.headers["Range"], self.headers["If-Range"]
        whole, status, start = server.content, 200, 0
        if server.statuses:
            status = server.statuses.pop(0)
        elif wanted and server.ranges and condition in (None, server.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(whole) else 416
        body = whole[start:] if status in (200, 206) else b""
        sent = body[: server.breaks.pop(0)] if server.breaks and status in (200, 206) else body
        server.log.append((wanted, condition, status, len(sent)))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.end_headers()
        if len(sent) < len(body):
            server.at_break()
        self.wfile.write(sent)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0))
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicate names are meant
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def image_zip(count: int = IMAGES, *, salt: bytes = b"") -> bytes:
    files = {f"inner/{'ab'[n % 2]}/{n}.jpg": bytes([n]) * 20_000 + salt for n in range(count)}
    return zip_of({**files, "inner/README.txt": b"hello", "other/9.jpg": b"not counted"})


def run(root: Path, server: Server, *, checksum: str | None = None, quiet: bool = True, target: str = "Data") -> None:
    source = {"url": server.url, "checksum": checksum or md5(server.content)}
    dataset = {"_target_": f"{__name__}.{target}", "root": str(root)}
    fetch.main(OmegaConf.create({"dataset": dataset, "source": source, "quiet": quiet}))


def left(folder: Path) -> list[str]:
    """What lies in a folder, but for the lock."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


# ------------------------------------------------------------------------------------- the verb


def test_fetch_leaves_the_inner_folder_and_nothing_else(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.content = image_zip()
    run(tmp_path / "parent" / "set", server, quiet=False)
    assert left(tmp_path / "parent") == ["set"]
    assert left(tmp_path / "parent" / "set") == ["README.txt", "a", "b"]
    assert (tmp_path / "parent" / "set" / "a" / "2.jpg").read_bytes() == bytes([2]) * 20_000
    said = capsys.readouterr().out
    assert "100 % of 0.1 MB" in said
    assert f"holds {IMAGES} images" in said


def test_fetch_is_silent_when_quiet(tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    server.content = image_zip()
    run(tmp_path / "set", server)
    assert capfd.readouterr() == ("", "")


def test_fetch_fills_an_empty_folder_and_follows_a_link(tmp_path: Path, server: Server) -> None:
    server.content = image_zip()
    (tmp_path / "disk" / "set").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "set")
    run(tmp_path / "link", server)
    assert (tmp_path / "link").is_symlink()
    assert left(tmp_path / "disk" / "set") == ["README.txt", "a", "b"]


def test_a_whole_set_is_not_fetched_again(tmp_path: Path, server: Server) -> None:
    server.content = image_zip()
    run(tmp_path / "set", server)
    server.log.clear()
    run(tmp_path / "set", server)
    assert server.log == []


def test_another_folder_is_refused_and_untouched(tmp_path: Path, server: Server) -> None:
    server.content = image_zip()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(RsPruneError, match="holds 1 images, not the 6"):
        run(tmp_path / "set", server)
    assert (tmp_path / "set" / "mine.jpg").read_bytes() == b"mine"
    assert server.log == []


def test_missing_images_leave_nothing(tmp_path: Path, server: Server) -> None:
    server.content = image_zip(IMAGES - 1)
    with pytest.raises(RsPruneError, match="holds 5 images in inner folder, not 6"):
        run(tmp_path / "set", server)
    assert left(tmp_path) == []


@pytest.mark.parametrize("content", [image_zip()[:-200], b"no archive at all", zip_of({"../x.jpg": b""})])
def test_a_bad_archive_leaves_nothing(tmp_path: Path, server: Server, content: bytes) -> None:
    server.content = content
    with pytest.raises(RsPruneError, match="cannot be unpacked"):
        run(tmp_path / "set", server)
    assert left(tmp_path) == []


def test_a_bomb_leaves_nothing(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SPARE_BYTES", 1000)
    monkeypatch.setattr(fetch, "GROWTH", 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("inner/0.jpg", bytes(1_000_000))
    server.content = buffer.getvalue()
    with pytest.raises(RsPruneError, match="holds more than"):
        run(tmp_path / "set", server)
    assert left(tmp_path) == []


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, server: Server) -> None:
    server.content = image_zip()
    with pytest.raises(RsPruneError, match=f"should be md5:abc but is {md5(server.content)}") as caught:
        run(tmp_path / "set", server, checksum="md5:abc")
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_a_data_set_without_a_source_is_refused(tmp_path: Path, server: Server) -> None:
    with pytest.raises(RsPruneError, match="Sourceless has no download address; put its images"):
        run(tmp_path / "set", server, target="Sourceless")
    assert left(tmp_path) == []


def test_two_fetches_download_once(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = image_zip()
    inside = 0
    overlap = []
    original = fetch.unpack

    def slow(*args: Any, **kwargs: Any) -> None:
        nonlocal inside
        inside += 1
        overlap.append(inside)
        threading.Event().wait(0.2)
        original(*args, **kwargs)
        inside -= 1

    monkeypatch.setattr(fetch, "unpack", slow)
    errors: list[Exception] = []

    def one() -> None:
        try:
            run(tmp_path / "set", server)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert overlap == [1]
    assert len(server.log) == 1
    assert left(tmp_path) == ["set"]


def test_an_interrupt_while_unpacking_keeps_the_download(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = image_zip()

    def interrupted(archive: Path, folder: Path, **_: Any) -> None:
        folder.mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fetch, "unpack", interrupted)
        run(tmp_path / "set", server)
    assert left(tmp_path) == [".rs_prune-set.set.zip.part"]
    server.log.clear()
    run(tmp_path / "set", server)
    assert server.log == []
    assert left(tmp_path) == ["set"]


def test_leftovers_of_a_killed_fetch_are_used_and_cleared(tmp_path: Path, server: Server) -> None:
    server.content = image_zip()
    (tmp_path / ".rs_prune-set.unpacked" / "inner").mkdir(parents=True)
    (tmp_path / ".rs_prune-set.unpacked" / "inner" / "half.jpg").write_bytes(b"")
    (tmp_path / ".rs_prune-set.set.zip").write_bytes(server.content)
    run(tmp_path / "set", server)
    assert server.log == []
    assert left(tmp_path) == ["set"]


def test_the_config_leaves_source_to_the_data_set() -> None:
    with initialize_config_dir(str(Path(__file__).parents[1] / "conf"), version_base=None):
        cfg = compose("fetch", ["dataset.root=/data"])
    assert cfg.source == {"url": None, "checksum": None}
    source = fetch._source(build(cfg.dataset, "dataset"), cfg)
    assert (source.folder, source.images) == ("2750", 27_000)
    cfg.source.url = "file:///mirror.zip"
    assert fetch._source(build(cfg.dataset, "dataset"), cfg) == replace(source, url="file:///mirror.zip")


# ------------------------------------------------------------------------------------- download


def test_a_broken_connection_is_resumed_without_a_second_download(tmp_path: Path, server: Server) -> None:
    server.content = image_zip()
    server.breaks = [50_000, 30_000]
    run(tmp_path / "set", server)
    size = len(server.content)
    assert server.log == [
        (None, None, 200, 50_000),
        ("bytes=50000-", '"1"', 206, 30_000),
        ("bytes=80000-", '"1"', 206, size - 80_000),
    ]
    assert left(tmp_path) == ["set"]


def test_the_next_command_resumes(tmp_path: Path, server: Server) -> None:
    server.content = image_zip()
    server.breaks = [10_000, 0, 0]
    with pytest.raises(RsPruneError, match=r"ended after 10000 of .* run the same command again to resume"):
        run(tmp_path / "set", server)
    assert left(tmp_path) == [".rs_prune-set.set.zip.part", ".rs_prune-set.set.zip.part.etag"]
    server.log.clear()
    run(tmp_path / "set", server)
    assert server.log == [("bytes=10000-", '"1"', 206, len(server.content) - 10_000)]
    assert left(tmp_path) == ["set"]


def test_a_server_that_ignores_ranges_starts_over(tmp_path: Path, server: Server) -> None:
    server.content = image_zip()
    server.ranges = False
    server.breaks = [50_000]
    run(tmp_path / "set", server)
    assert [status for _, _, status, _ in server.log] == [200, 200]
    assert left(tmp_path) == ["set"]


def test_a_changed_file_starts_over(tmp_path: Path, server: Server) -> None:
    new = image_zip(salt=b"new")

    def change() -> None:
        server.content, server.etag = new, '"2"'

    server.content, server.breaks, server.at_break = image_zip(), [50_000], change
    run(tmp_path / "set", server, checksum=md5(new))
    assert server.log == [(None, None, 200, 50_000), ("bytes=50000-", '"1"', 200, len(new))]
    assert (tmp_path / "set" / "a" / "0.jpg").read_bytes().endswith(b"new")


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_a_part_of_another_file_is_found_out_without_a_strong_etag(tmp_path: Path, server: Server, etag: str) -> None:
    server.content, server.etag = image_zip(), etag
    (tmp_path / "set.zip.part").write_bytes(b"x" * 50_000)
    download(server.url, tmp_path / "set.zip", md5(server.content))
    assert [(wanted, condition) for wanted, condition, _, _ in server.log] == [
        ("bytes=50000-", None),
        (None, None),
    ]
    assert (tmp_path / "set.zip").read_bytes() == server.content
    assert left(tmp_path) == ["set.zip"]


def test_a_weak_etag_is_no_condition(tmp_path: Path, server: Server) -> None:
    server.content, server.etag, server.breaks = image_zip(), 'W/"1"', [50_000]
    download(server.url, tmp_path / "set.zip", md5(server.content))
    assert server.log[1][:3] == ("bytes=50000-", None, 206)


def test_a_part_longer_than_the_file_starts_over(tmp_path: Path, server: Server) -> None:
    server.content = b"short"
    (tmp_path / "set.zip.part").write_bytes(b"x" * 50)
    download(server.url, tmp_path / "set.zip", md5(b"short"))
    assert [status for _, _, status, _ in server.log] == [416, 200]
    assert (tmp_path / "set.zip").read_bytes() == b"short"


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(tmp_path: Path, server: Server) -> None:
    server.content = b"content"
    server.statuses = [503, 429]
    download(server.url, tmp_path / "set.zip", md5(b"content"))
    assert len(server.log) == 3
    server.log.clear()
    server.statuses = [404]
    with pytest.raises(RsPruneError, match="HTTP 404"):
        download(server.url, tmp_path / "other.zip", md5(b"content"))
    assert len(server.log) == 1
    assert left(tmp_path) == ["set.zip"]


def test_a_silent_server_runs_into_the_timeout(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    monkeypatch.setattr(module, "PAUSES", ())
    released = threading.Event()
    server.content, server.breaks, server.at_break = b"content", [0], lambda: void(released.wait(5))
    with pytest.raises(RsPruneError, match="timed out"):
        download(server.url, tmp_path / "set.zip", md5(b"content"))
    released.set()


def void(_: object) -> None: ...


def test_a_full_disk_is_named_and_the_part_stays(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = b"content"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RsPruneError, match=r"set\.zip\.part: cannot be written: No space left"):
        download(server.url, tmp_path / "set.zip", md5(b"content"), progress=full)
    assert (tmp_path / "set.zip.part").read_bytes() == b"content"


def test_files_on_disk_and_sha256(tmp_path: Path) -> None:
    (tmp_path / "mirror.zip").write_bytes(b"content")
    seen: list[tuple[int, int | None]] = []
    checksum = f"sha256:{hashlib.sha256(b'content').hexdigest().upper()}"
    url = (tmp_path / "mirror.zip").as_uri()
    download(url, tmp_path / "set.zip", checksum, progress=lambda *now: seen.append(now))
    assert (tmp_path / "set.zip").read_bytes() == b"content"
    assert seen == [(7, 7)]
    with pytest.raises(RsPruneError, match="No such file"):
        download((tmp_path / "none.zip").as_uri(), tmp_path / "other.zip", checksum)


@pytest.mark.parametrize(
    ("url", "checksum", "message"),
    [
        ("ftp://host/a.zip", "md5:0", "not an http, https or file address"),
        ("a.zip", "md5:0", "not an http, https or file address"),
        ("http://host/a.zip", "crc:0", "neither md5"),
        ("http://host/a.zip", "0123", "neither md5"),
    ],
)
def test_other_addresses_and_checksums_are_refused(tmp_path: Path, url: str, checksum: str, message: str) -> None:
    with pytest.raises(RsPruneError, match=message):
        download(url, tmp_path / "set.zip", checksum)


# --------------------------------------------------------------------------------------- unpack


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def tar_of(*entries: tarfile.TarInfo, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:  # type: ignore[call-overload]
        for info in entries:
            file.addfile(info, io.BytesIO(b"x" * info.size))
    return buffer.getvalue()


def zip_entry(name: str, kind: int = stat.S_IFREG, **fields: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo(name)
        info.external_attr = (kind | 0o777) << 16
        for key, value in fields.items():
            setattr(info, key, value)
        file.writestr("good.txt", b"good")
        file.writestr(info, b"/etc/passwd")
    return buffer.getvalue()


def encrypted() -> bytes:
    content = bytearray(zip_of({"a.txt": b"secret"}))
    content[6] |= 1  # the flags in the entry's own header
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    return bytes(content)


OUTSIDE = [
    "/etc/x",
    "../x",
    "a/../../x",
    "C:/x",
    "c:x",
    "a\\..\\x",
    "//host/share/x",
    "x" * 5000,
    "a/" * 40 + "x",
]
BAD = {
    **{f"zip {name[:20]}": zip_entry(name) for name in OUTSIDE},
    **{f"tar {name[:20]}": tar_of(entry("good.txt"), entry(name)) for name in OUTSIDE},
    "zip symlink": zip_entry("link", stat.S_IFLNK),
    "zip fifo": zip_entry("pipe", stat.S_IFIFO),
    "zip bzip2": zip_entry("a.txt", compress_type=zipfile.ZIP_BZIP2),
    "zip file and folder": zip_of({"a": b"1", "a/b": b"2"}),
    "zip twice by another spelling": zip_of({"a/b": b"1", "a/./b": b"2"}),
    "zip cut": image_zip()[:-30],
    "zip cut early": image_zip()[:100],
    "tar symlink": tar_of(entry("good.txt"), entry("link", tarfile.SYMTYPE, link="/etc/passwd")),
    "tar symlink inside": tar_of(entry("good.txt"), entry("link", tarfile.SYMTYPE, link="good.txt")),
    "tar hardlink": tar_of(entry("good.txt"), entry("link", tarfile.LNKTYPE, link="good.txt")),
    "tar device": tar_of(entry("good.txt"), entry("null", tarfile.CHRTYPE)),
    "tar block device": tar_of(entry("good.txt"), entry("disk", tarfile.BLKTYPE)),
    "tar fifo": tar_of(entry("good.txt"), entry("pipe", tarfile.FIFOTYPE)),
    "tar twice": tar_of(entry("a.txt"), entry("a.txt")),
    "tar cut": tar_of(entry("a.txt"), entry("b.txt"))[:1024],
    "tar.gz cut": tar_of(entry("a.txt"), mode="w:gz")[:-10],
    "tar.xz cut": tar_of(entry("a.txt"), mode="w:xz")[:-40],
    "nothing": b"",
    "html": b"<html>Please log in</html>" * 40,
}


def test_duplicate_names_in_a_zip_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("a.txt", b"1")
        file.writestr("a.txt", b"2")
    assert_refused(tmp_path, buffer.getvalue(), "File exists")


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_dangerous_and_damaged_archives_leave_nothing(tmp_path: Path, content: bytes) -> None:
    assert_refused(tmp_path, content, "cannot be unpacked")


def assert_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "archive").write_bytes(content)
    with pytest.raises(RsPruneError, match=message) as caught:
        unpack(tmp_path / "in" / "archive", tmp_path / "out", limit_files=100, limit_bytes=10**6)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == ["in"]
    assert left(tmp_path / "in") == ["archive"]


def large() -> tarfile.TarInfo:
    info = entry("a.bin")
    info.size = 2_000_000
    return info


def lying() -> bytes:
    """A zip whose directory says that 2 MB are 10 bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.bin", bytes(2_000_000))
    return buffer.getvalue().replace((2_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))


def test_bombs_are_refused(tmp_path: Path) -> None:
    many = {f"{n}.jpg": b"" for n in range(101)}
    for number, (content, message) in enumerate(
        {
            tar_of(large(), mode="w:gz"): "more than 1000000 bytes",
            tar_of(large(), mode="w:bz2"): "more than 1000000 bytes",
            zip_of({"a.bin": bytes(600_000), "b.bin": bytes(600_000)}): "more than 1000000 bytes",
            zip_of(many): "more than 100 entries",
            tar_of(*map(entry, many)): "more than 100 entries",
            lying(): "cannot be unpacked",
        }.items()
    ):
        (tmp_path / str(number)).mkdir()
        assert_refused(tmp_path / str(number), content, message)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_are_unpacked(tmp_path: Path, mode: str) -> None:
    file = entry("./a/b.txt")
    file.size = 3
    file.mode = 0o4777
    (tmp_path / "archive").write_bytes(
        tar_of(entry("./", tarfile.DIRTYPE), entry("./a", tarfile.DIRTYPE), file, mode=mode)
    )
    unpack(tmp_path / "archive", tmp_path / "out", limit_files=3, limit_bytes=3)
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"xxx"
    assert not (tmp_path / "out" / "a" / "b.txt").stat().st_mode & 0o7111


@pytest.mark.parametrize(
    ("name", "content", "tool"),
    [("a.rar", b"anything", "unar"), ("a", b"Rar!\x1a\x07\x01\x00", "unar"), ("a.7z", b"anything", "7z")],
)
def test_other_kinds_name_the_tool(tmp_path: Path, name: str, content: bytes, tool: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RsPruneError, match=f"yourself, with {tool}"):
        unpack(tmp_path / name, tmp_path / "out", limit_files=1, limit_bytes=1)
    assert left(tmp_path) == [name]


def test_an_encrypted_zip_is_named_so(tmp_path: Path) -> None:
    assert_refused(tmp_path, encrypted(), "encrypted")


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(image_zip())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_bytes(b"")
    with pytest.raises(RsPruneError, match="not an empty folder"):
        unpack(tmp_path / "archive", tmp_path / "out", limit_files=100, limit_bytes=10**6)
    assert left(tmp_path / "out") == ["mine"]
