"""Work on many files: in order, in processes or not, errors as they are."""

import errno
import os

import numpy as np
import pytest
import torch
from fakes import decode, paint
from joblib import Parallel, delayed

from rs_prune.dataset.folder import Folder
from rs_prune.errors import RsPruneError
from rs_prune.scenes import tasks
from rs_prune.scenes.cache import decoded
from rs_prune.scenes.splits import content_digests
from rs_prune.scenes.tasks import A_TASK, in_order

COUNT = 5 * A_TASK + 3


@pytest.fixture(params=[True, False], ids=["processes", "in process"])
def processes(request, monkeypatch):
    monkeypatch.setattr(tasks, "WORTH_PROCESSES", 1 if request.param else 10**9)
    return request.param


def squares(places):
    return [(place**2, os.getpid()) for place in places]


def test_results_come_in_order_from_where_they_should(processes):
    found = list(in_order(squares, COUNT))
    assert [square for square, _ in found] == [place**2 for place in range(COUNT)]
    assert (os.getpid() in {process for _, process in found}) is not processes


def test_the_workers_of_a_parallel_sweep_start_processes_too():
    def sizes():
        from rs_prune.scenes import tasks

        tasks.WORTH_PROCESSES = 1
        return list(tasks.in_order(list, 100))

    assert Parallel(n_jobs=2, backend="loky")([delayed(sizes)()]) == [list(range(100))]


def test_nothing_to_do_is_done(processes):
    assert list(in_order(squares, 0)) == []


def test_the_random_numbers_of_the_run_are_left_as_they_are(processes):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(in_order(squares, COUNT))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("error", [RsPruneError("a.tif: damaged"), OSError(errno.ENOSPC, "No space left on device")])
def test_an_error_arrives_as_it_was_raised_after_what_came_before(processes, error):
    def work(places):
        if 2 * A_TASK in places:
            raise error
        return list(places)

    found = []
    with pytest.raises(type(error)) as caught:
        for place in in_order(work, COUNT):
            found.append(place)
    assert found == list(range(2 * A_TASK))
    assert str(caught.value) == str(error)
    assert getattr(caught.value, "errno", None) == getattr(error, "errno", None)


def test_a_set_is_the_same_however_it_is_decoded(processes, tmp_path):
    root = paint(tmp_path / "data", images=40)
    bad = sorted(root.rglob("*.png"))[5]
    bad.write_bytes(b"no image")
    scenes = Folder(root=str(root), on_error="skip")()
    kept, expected, lines = decode(scenes)
    found = decoded(scenes, cache=tmp_path / "cache", gb=1)
    assert isinstance(found.pixels, np.ndarray)
    assert np.array_equal(found.pixels, expected)
    assert (found.scenes.files, found.skipped) == (kept.files, lines)
    assert found.digests == content_digests(kept)
