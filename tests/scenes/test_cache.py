"""The cache of decoded scenes: found, shared, rebuilt when it cannot be trusted, bounded, and never needed."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import pickle
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from fakes import TINY_RUN, decode, paint, units
from rasterio.errors import NotGeoreferencedWarning

from rs_prune.dataset.eurosat_ms import EuroSATMS
from rs_prune.dataset.folder import Folder
from rs_prune.errors import RsPruneError
from rs_prune.results.store import digest
from rs_prune.scenes import cache as cache_module
from rs_prune.scenes import contents as contents_module
from rs_prune.scenes import pixels as pixels_module
from rs_prune.scenes import reading
from rs_prune.scenes.array import FACTS, PIXELS
from rs_prune.scenes.cache import decoded
from rs_prune.scenes.load import _load, load
from rs_prune.scenes.pixels import Streamed
from rs_prune.scenes.splits import PARTS, content_digests, split
from rs_prune.training import datamodule
from rs_prune.training.datamodule import SceneData

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def scenes(scene_folder):
    return Folder(root=str(scene_folder))()


@pytest.fixture
def counted(monkeypatch):
    """The files that are decoded."""
    files, scene = [], pixels_module.scene

    def note(scenes, file):
        files.append(file)
        return scene(scenes, file)

    monkeypatch.setattr(pixels_module, "scene", note)
    return files


def opened(scenes, cache, gb=1.0):
    return decoded(scenes, cache=cache, gb=gb)


def array_of(cache):
    (path,) = (cache / "scenes").glob(f"*/{PIXELS}")
    return path


def fresh_load(dataset, cache, **options):
    _load.cache_clear()
    return load(dataset, identity="test", shares=SHARES, seed=0, cache=cache, **options)


# ------------------------------------------------------------------------------- built and found


def test_it_holds_what_decoding_gives_and_is_decoded_once(scenes, tmp_path, counted):
    first = opened(scenes, tmp_path)
    decodings = len(counted)
    assert decodings == 61  # the first is looked at before
    again = opened(scenes, tmp_path)
    assert len(counted) == decodings
    kept, pixels, skipped = decode(scenes)
    for found in (first, again):
        assert (found.pixels == pixels).all()
        assert found.pixels.dtype == pixels.dtype
        assert (found.scenes, found.skipped) == (kept, skipped)
        assert found.digests == content_digests(scenes)
        assert found.units == units(scenes, found.digests, pixels)
        assert not found.pixels.flags.writeable
    assert {path.name for path in array_of(tmp_path).parent.iterdir()} == {PIXELS, FACTS}


def test_it_is_found_by_content_wherever_the_files_lie(scenes, tmp_path, counted):
    opened(scenes, tmp_path / "cache")
    counted.clear()
    moved = paint(tmp_path / "moved")
    opened(Folder(root=str(moved))(), tmp_path / "cache")
    assert counted == []
    opened(Folder(root=str(moved), size=16)(), tmp_path / "cache")
    assert len(counted) >= 60
    assert len(list((tmp_path / "cache" / "scenes").glob(f"*/{PIXELS}"))) == 2


def test_files_are_read_again_only_when_something_about_them_changed(tmp_path, monkeypatch):
    root = paint(tmp_path / "data", images=3)
    reads, read = [], contents_module.content_digests
    monkeypatch.setattr(contents_module, "content_digests", lambda scenes: reads.append(1) or read(scenes))
    scenes = Folder(root=str(root))()
    opened(scenes, tmp_path)
    opened(scenes, tmp_path)
    assert len(reads) == 2  # files this young may change again unnoticed
    monkeypatch.setattr(contents_module, "SETTLED_S", -60)
    opened(scenes, tmp_path)
    before = opened(scenes, tmp_path).digests
    assert len(reads) == 3
    path, other = root / scenes.files[0], root / scenes.files[1]
    state, old = path.stat(), path.read_bytes()
    path.write_bytes(old[:-20] + bytes(20) if path.suffix == ".png" else old[:-30] + bytes(28) + old[-2:])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # same size, same time of change: the entry's time tells
    assert path.stat().st_size == state.st_size
    assert other.exists()
    after = contents_module.contents(scenes, tmp_path)[1]
    assert len(reads) == 4
    assert [one == two for one, two in zip(before, after, strict=True)] == [False] + [True] * 8


def test_finding_it_takes_no_lock_and_writes_nothing_needful(scenes, tmp_path, monkeypatch, counted):
    opened(scenes, tmp_path)
    counted.clear()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    for name in ("FileLock", "write_json"):
        monkeypatch.setattr(cache_module, name, refuse)
    monkeypatch.setattr(contents_module, "write_json", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert isinstance(opened(scenes, tmp_path).pixels, np.ndarray)
    assert counted == []


def test_the_data_folder_stays_as_it_was(tmp_path):
    root = paint(tmp_path / "data", images=6)
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    fresh_load(Folder(root=str(root)), tmp_path / "cache")
    fresh_load(Folder(root=str(root)), tmp_path / "cache", cache_gb=0)
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before


# ------------------------------------------------------------------------------------ distrusted


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lengthen(path):
    path.write_bytes(path.read_bytes() + bytes(64))


def empty(path):
    path.write_bytes(b"")


def other_shape(path):
    np.save(path, np.zeros((60, 3, 16, 64), np.uint8))


class Payload:
    def __reduce__(self):
        return (os.abort, ())


def a_pickle(path):
    path.write_bytes(pickle.dumps(Payload()))


def objects(path):
    np.save(path, np.array([Payload()], object), allow_pickle=True)


@pytest.mark.parametrize("damage", [cut, lengthen, empty, other_shape, a_pickle, objects])
def test_an_array_that_cannot_be_right_is_made_anew(scenes, tmp_path, caplog, damage):
    pixels = opened(scenes, tmp_path).pixels.copy()
    damage(array_of(tmp_path))
    with caplog.at_level(logging.INFO, "rs_prune"):
        assert (opened(scenes, tmp_path).pixels == pixels).all()
    (line,) = [record.message for record in caplog.records if "made anew" in record.message]
    assert str(array_of(tmp_path).parent) in line
    caplog.clear()
    assert (opened(scenes, tmp_path).pixels == pixels).all()
    assert not caplog.records


def version(facts):
    return json.dumps({**json.loads(facts), "made by": {"format": 0}})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(version, "made by another version"), (lambda facts: facts[:40], "damaged"), (lambda _: "[]", "damaged")],
)
def test_facts_of_another_version_or_damaged_are_not_trusted(scenes, tmp_path, caplog, counted, spoil, reason):
    pixels = opened(scenes, tmp_path).pixels.copy()
    facts = array_of(tmp_path).with_name(FACTS)
    good = facts.read_text()
    facts.write_text(spoil(good))
    counted.clear()
    with caplog.at_level(logging.INFO, "rs_prune"):
        assert (opened(scenes, tmp_path).pixels == pixels).all()
    assert len(counted) >= 60
    assert facts.read_text() == good
    assert [record.message for record in caplog.records if reason in record.message]


def test_files_that_change_while_they_are_decoded_are_not_kept(tmp_path, monkeypatch):
    root = paint(tmp_path / "data", images=3)
    scenes = Folder(root=str(root))()
    survey = cache_module.fill

    def meddle(*args):
        facts = survey(*args)
        (root / scenes.files[0]).touch()
        return facts

    monkeypatch.setattr(cache_module, "fill", meddle)
    with pytest.raises(RsPruneError, match="changed while"):
        opened(scenes, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob(FACTS))


# -------------------------------------------------------------------------- processes side by side


def slow_open(scenes, cache, started, answers):
    """In a process of its own: opens the cache, each scene taking a little while, and says how many it decoded."""
    pixels_module.threads.cache_clear()  # threads do not survive a fork
    scene, files = pixels_module.scene, []

    def slow(scenes, file):
        files.append(file)
        time.sleep(0.005)
        return scene(scenes, file)

    pixels_module.scene = slow
    started.wait()
    found = opened(scenes, cache)
    answers.put((len(files), int(found.pixels.sum())))


def test_of_two_processes_one_builds_and_the_other_waits(scenes, tmp_path):
    started, answers = FORK.Barrier(2), FORK.Queue()
    both = [FORK.Process(target=slow_open, args=(scenes, tmp_path, started, answers)) for _ in range(2)]
    for process in both:
        process.start()
    (idle, one), (busy, two) = sorted(answers.get(timeout=60) for _ in both)
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert idle == 0
    assert busy >= 60
    assert one == two == int(decode(scenes)[1].sum())


def test_a_build_that_was_killed_leaves_nothing_that_is_believed(scenes, tmp_path):
    started, answers = FORK.Barrier(1), FORK.Queue()
    process = FORK.Process(target=slow_open, args=(scenes, tmp_path, started, answers))
    process.start()
    until = time.monotonic() + 60
    while not list(tmp_path.rglob(f".{PIXELS}.*.part")):
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert list(tmp_path.rglob(f".{PIXELS}.*.part"))
    assert not list(tmp_path.rglob(PIXELS))
    assert (opened(scenes, tmp_path).pixels == decode(scenes)[1]).all()
    assert not list(array_of(tmp_path).parent.glob(".*.part"))


# ---------------------------------------------------------------------------------- bounds and ways out


def test_without_a_place_for_it_scenes_are_decoded_as_they_are_needed(scenes, tmp_path, caplog):
    (tmp_path / "file").touch()
    found = opened(scenes, tmp_path / "file" / "cache")
    assert isinstance(found.pixels, Streamed)
    kept, pixels, _ = decode(scenes)
    assert (found.pixels[np.arange(60)] == pixels).all()
    assert found.units == units(kept, found.digests, pixels)
    (line,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert str(tmp_path / "file" / "cache") in line
    assert "set cache=" in line


def test_a_disk_that_fills_up_leaves_no_draft(scenes, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    assert isinstance(opened(scenes, tmp_path).pixels, Streamed)
    assert "No space left on device" in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".part", PIXELS))]


def test_a_run_whose_cache_cannot_be_written_uses_a_folder_of_its_own(rs_prune, scene_folder, tmp_path, caplog):
    (tmp_path / "file").touch()
    words = (
        "run",
        *TINY_RUN,
        f"dataset.root={scene_folder}",
        "out=here",
        "criterion=l1",
        "epochs=1",
        "cache=file/cache",
    )
    answer = rs_prune(*words)
    assert answer.status == 0, answer.err
    assert "cache=file/cache: cannot be written" in caplog.text
    assert list((tmp_path / "here" / "cache" / "scenes").glob(f"*/{PIXELS}"))
    answer = rs_prune(*words, "cache_gb=-1")
    assert answer.status == 1
    assert "cache_gb=-1" in answer.err


def test_a_set_beyond_the_bound_leaves_no_array_and_is_surveyed_once(scenes, tmp_path, counted):
    size = decode(scenes)[1].nbytes
    assert isinstance(opened(scenes, tmp_path, gb=(size - 1) / 1e9).pixels, Streamed)
    assert not list(tmp_path.rglob(PIXELS))
    counted.clear()
    assert isinstance(opened(scenes, tmp_path, gb=(size - 1) / 1e9).pixels, Streamed)
    assert counted == []
    assert isinstance(opened(scenes, tmp_path, gb=size / 1e9).pixels, np.ndarray)


def test_the_array_used_longest_ago_makes_room(tmp_path, caplog):
    sets = [Folder(root=str(paint(tmp_path / str(seed), images=4, seed=seed)))() for seed in range(3)]
    gb = 2.5 * decode(sets[0])[1].nbytes / 1e9
    cache = tmp_path / "cache"
    for number in (0, 1, 0):
        opened(sets[number], cache, gb)
        time.sleep(0.02)
    kept = opened(sets[0], cache, gb)
    with caplog.at_level(logging.INFO, "rs_prune"):
        opened(sets[2], cache, gb)
    assert caplog.text.count("removed to keep the cache within cache_gb") == 1
    assert len(list((cache / "scenes").glob(f"*/{PIXELS}"))) == 2
    assert (kept.pixels == decode(sets[0])[1]).all()
    caplog.clear()
    assert (opened(sets[1], cache, gb).pixels == decode(sets[1])[1]).all()
    assert "made anew" not in caplog.text  # it is no news that an array is not there


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_files_that_cannot_be_read_count_for_nothing_against_the_bound(tmp_path, counted):
    root = paint(tmp_path / "few", classes=2, images=12, size=16)
    (root / "class0" / "000.jpg").write_bytes(b"no image")
    scenes = Folder(root=str(root), size=16, on_error="skip")()
    gb = 23.5 * 3 * 16 * 16 / 1e9
    found = opened(scenes, tmp_path / "cache", gb=gb)
    assert isinstance(found.pixels, np.ndarray) and found.pixels.shape == (23, 3, 16, 16)
    counted.clear()
    assert np.array_equal(opened(scenes, tmp_path / "cache", gb=gb).pixels, found.pixels)
    assert counted == []


def test_a_fault_that_passes_is_not_noted_as_a_bad_file(tmp_path, monkeypatch):
    root = paint(tmp_path / "few", classes=2, images=12, size=16)
    scenes = Folder(root=str(root), size=16, on_error="skip")()
    read_photo = reading._read_photo

    def out_of_handles(path):
        if path.name == "003.png":
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return read_photo(path)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "_read_photo", out_of_handles)
        with pytest.raises(RsPruneError, match=r"003.png: cannot be read just now \(Too many open files\)"):
            opened(scenes, tmp_path / "cache")
    found = opened(scenes, tmp_path / "cache")
    assert len(found.scenes.files) == 24 and found.skipped == ()


def test_scenes_that_cannot_be_read_are_left_out_and_named(tmp_path, counted):
    assert NotGeoreferencedWarning
    draw = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "data" / f"class{number % 3}" / f"{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", driver="GTiff", count=2, height=8, width=8, dtype="uint16") as file:
            file.write(draw.integers(0, 60000, (2, 8, 8)).astype(np.uint16))
    bad = tmp_path / "data" / "class1" / "4.tif"
    bad.write_bytes(b"no image")
    (tmp_path / "data" / "class2" / "99.tif").symlink_to(tmp_path / "nowhere")
    scenes = Folder(root=str(tmp_path / "data"), on_error="skip")()
    gone = any(file.endswith("99.tif") for file in scenes.files)
    first = opened(scenes, tmp_path / "cache")
    counted.clear()
    for found in (first, opened(scenes, tmp_path / "cache"), opened(scenes, tmp_path / "cache", gb=0)):
        kept, pixels, _ = decode(scenes)
        assert found.scenes == kept
        assert found.pixels.dtype == pixels.dtype == np.uint16
        assert (found.pixels[np.arange(11)] == pixels).all()
        assert len(found.skipped) == 1 + gone
        assert any(line.startswith(f"{bad}: not a readable image") for line in found.skipped)
        assert len(found.digests) == len(found.units) == 11
    strict = replace(scenes, files=tuple(file for file in scenes.files if "99" not in file), on_error="raise")
    strict = replace(strict, labels=tuple(number // 4 for number in range(12)))
    with pytest.raises(RsPruneError, match=r"4\.tif: not a readable image"):
        opened(strict, tmp_path / "cache")
    bad.unlink()
    with pytest.raises(RsPruneError, match=r"4\.tif: cannot be opened"):
        opened(strict, tmp_path / "cache")


# --------------------------------------------------------------------------- the same results as ever


def batches_of(loaded):
    words = {"batch_size": 8, "seed": 3, "flips": True, "rotations": True}
    data = SceneData(
        scenes=loaded.scenes, pixels=loaded.pixels, parts=loaded.parts, mean=loaded.mean, std=loaded.std, **words
    )
    loader = data.train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            yield data._prepare(batch)
    for part in PARTS:
        yield from data.batches(part)
    yield from data.batches("train", limit=5)


def test_streamed_scenes_give_the_same_batches_bit_for_bit(scene_folder, tmp_path):
    mapped = fresh_load(Folder(root=str(scene_folder)), tmp_path / "mapped")
    streamed = fresh_load(Folder(root=str(scene_folder)), tmp_path / "streamed", cache_gb=0)
    assert isinstance(streamed.pixels, Streamed)
    assert isinstance(mapped.pixels, np.ndarray)
    assert mapped.fingerprint == streamed.fingerprint
    assert (mapped.parts, mapped.mean, mapped.std) == (streamed.parts, streamed.mean, streamed.std)
    pairs = list(zip(batches_of(mapped), batches_of(streamed), strict=True))
    assert len(pairs) > 10
    for one, two in pairs:
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_fingerprint_is_that_of_the_plain_formula(scene_folder, tmp_path):
    dataset = Folder(root=str(scene_folder))
    scenes, pixels, _ = decode(dataset())
    digests = content_digests(scenes)
    parts = split(scenes, units(scenes, digests, pixels), **SHARES, seed=0)
    values = pixels[list(parts.train)].astype(np.float64) * (1 / 255)
    count = values.size / 3
    mean = values.sum((0, 2, 3)) / count
    std = np.sqrt((values**2).sum((0, 2, 3)) / count - mean**2)
    content = {part: sorted((digests[i], scenes.labels[i]) for i in getattr(parts, part)) for part in PARTS}
    facts = [content, scenes.classes, scenes.bands, scenes.size, mean.tolist(), std.tolist()]
    assert fresh_load(dataset, tmp_path).fingerprint == digest(facts)


@pytest.mark.real
@pytest.mark.parametrize("gb", [1.0, 0.0])
def test_real_multispectral_scenes_keep_their_fingerprint(real_data, tmp_path, gb):
    """The value that decoding everything into memory gave; statistics of all 13 bands are in it."""
    dataset = EuroSATMS(root=str(real_data / "eurosat_ms"))
    _load.cache_clear()
    shares = {"train": 0.7, "val": 0.15, "test": 0.15}
    loaded = load(dataset, identity="ms", shares=shares, seed=0, cache=tmp_path, cache_gb=gb)
    assert len(loaded.scenes.files) == 369
    assert loaded.fingerprint == "f53d97a9612cd4b8"


def test_no_more_than_a_few_batches_are_decoded_ahead():
    made = []

    def make(chunk):
        made.append(chunk)
        return chunk

    for taken, chunk in enumerate(datamodule._ahead(make, ([number] for number in range(30)))):
        assert chunk == [taken]
        time.sleep(0.002)
        assert len(made) <= taken + 1 + datamodule.AHEAD
    assert made == [[number] for number in range(30)]


def test_leaving_early_ends_the_thread_and_an_error_comes_through():
    def make(chunk):
        if chunk == [3]:
            raise RsPruneError("gone.jpg: no such file")
        return chunk

    batches = datamodule._ahead(make, ([number] for number in range(30)))
    assert next(batches) == [0]
    batches.close()
    with pytest.raises(RsPruneError, match="gone"):
        list(datamodule._ahead(make, ([number] for number in range(30))))
