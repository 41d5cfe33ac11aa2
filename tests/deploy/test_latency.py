"""Training shares the machine, measuring has it alone, and a death frees it. Nothing here is timed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import torch
from torch import nn

from rs_prune.deploy.latency import machine_alone, machine_shared, measure_latency

FORK = multiprocessing.get_context("fork")  # the parent's imports and its temporary folder are the child's
PATIENCE = 150  # seconds until a test gives up; nothing waits that long unless it is broken
FOREVER = 1000  # longer than that
MOMENT = 0.3  # long enough for a lock that is free to be taken


@pytest.fixture(autouse=True)
def _own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real runs on this machine hold the real locks."""
    torch.set_num_threads(1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))


class Worker:
    """A process that takes a lock and holds it until told to let go.

    It is forked at once, and goes for the lock at once unless told to wait: a process that is forked under a lock
    holds that lock too.
    """

    def __init__(self, lock: Callable[[], AbstractContextManager[None]], wait: bool = False) -> None:
        self.taken, self.release, self.started, self.go = (FORK.Event() for _ in range(4))
        self.process: BaseProcess = FORK.Process(target=self._work, args=(lock,))
        self.process.start()
        if not wait:
            self.go.set()
            assert self.started.wait(PATIENCE)

    def _work(self, lock: Any) -> None:
        self.go.wait(FOREVER)
        self.started.set()
        with lock():
            self.taken.set()
            self.release.wait(FOREVER)

    def has(self) -> bool:
        return self.taken.wait(PATIENCE)

    def waits(self) -> bool:
        return not self.taken.wait(MOMENT)

    def let_go(self) -> None:
        self.release.set()
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0

    def die(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(PATIENCE)
        assert self.process.exitcode == -signal.SIGKILL


@pytest.fixture
def worker() -> Iterator[Callable[[Any], Worker]]:
    workers: list[Worker] = []

    def start(lock: Any, wait: bool = False) -> Worker:
        workers.append(Worker(lock, wait))
        return workers[-1]

    yield start
    for one in workers:
        if one.process.is_alive():
            one.process.kill()
        one.process.join(PATIENCE)


def test_trainers_share_and_a_measurement_waits_for_all(worker: Any) -> None:
    one, two = worker(machine_shared), worker(machine_shared)
    assert one.has()
    assert two.has()
    alone = worker(machine_alone)
    assert alone.waits()
    one.let_go()
    assert alone.waits()
    two.let_go()
    assert alone.has()
    alone.let_go()


def test_trainers_wait_for_a_measurement_under_way(worker: Any) -> None:
    alone = worker(machine_alone)
    assert alone.has()
    trainer, other = worker(machine_shared), worker(machine_alone)
    assert trainer.waits()
    assert other.waits()
    alone.let_go()
    assert trainer.has() or other.has()
    trainer.release.set()
    other.release.set()
    assert trainer.has()
    assert other.has()


def test_a_waiting_measurement_goes_before_the_next_trainer(worker: Any) -> None:
    """Trainers come back every epoch; a measurement that has announced itself does not starve."""
    trainer = worker(machine_shared)
    assert trainer.has()
    alone = worker(machine_alone)
    assert alone.waits()
    late = worker(machine_shared)
    assert late.waits()
    trainer.let_go()
    assert alone.has()
    assert late.waits()
    alone.let_go()
    assert late.has()
    late.let_go()


@pytest.mark.parametrize(("holder", "waiter"), [(machine_shared, machine_alone), (machine_alone, machine_shared)])
def test_a_killed_holder_frees_the_machine(holder: Any, waiter: Any, worker: Any) -> None:
    dead = worker(holder)
    assert dead.has()
    alive = worker(waiter)
    assert alive.waits()
    dead.die()
    assert alive.has()
    alive.let_go()


def test_a_killed_waiter_blocks_nobody(worker: Any) -> None:
    trainer = worker(machine_shared)
    assert trainer.has()
    alone = worker(machine_alone)
    assert alone.waits()
    alone.die()
    another = worker(machine_shared)
    assert another.has()
    trainer.let_go()
    another.let_go()


@pytest.mark.parametrize("lock", [machine_shared, machine_alone])
def test_an_error_inside_frees_the_machine(lock: Any, worker: Any) -> None:
    with pytest.raises(ZeroDivisionError), lock():
        raise ZeroDivisionError
    alone = worker(machine_alone)
    assert alone.has()
    alone.let_go()


def test_the_machine_is_held_while_measuring(worker: Any) -> None:
    """From the first pass to the last, by the measurement alone; then it is free."""
    trainer = worker(machine_shared, wait=True)

    class Net(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not trainer.go.is_set():
                trainer.go.set()
                assert trainer.started.wait(PATIENCE)
                assert trainer.waits()
            assert not trainer.taken.is_set()
            assert not self.training
            assert not torch.is_grad_enabled()
            assert x.shape == (4, 3, 6, 6)
            assert x.is_contiguous(memory_format=torch.channels_last)
            return super().forward(x)

    result = measure_latency(Net(3, 2, 3), torch.zeros(1, 3, 6, 6), batch=4, threads=1, seconds=0.01)
    assert trainer.go.is_set()
    assert trainer.has()
    trainer.let_go()
    assert set(result) == {"median_ms", "iqr_ms", "threads", "batch"}
    assert result["median_ms"] > 0
    assert result["iqr_ms"] >= 0
    assert (result["threads"], result["batch"]) == (1, 4)
