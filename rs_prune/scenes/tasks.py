"""The same work on every file of a set, in processes where that pays: threads would wait for each other at each one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from rs_prune.errors import RsPruneError

T = TypeVar("T")

WORTH_PROCESSES = 1000
"""Files from which on processes are started."""
A_TASK = 32
"""Files that are handed over in one go."""


def in_order(work: Callable[[range], list[T]], count: int) -> Iterator[T]:
    """Gives what `work` makes of every file, in order; a few are made ahead.

    Args:
        work: Takes consecutive places and gives a result for each. Picklable, as other processes may call it; what it
            returns is pickled, too.
        count: How many files there are.

    Raises:
        RsPruneError: The first one that `work` raises.
        OSError: Likewise.
    """
    workers = min(4, os.cpu_count() or 1) if count >= WORTH_PROCESSES else 0
    loader = DataLoader(
        _Tasks(work, count),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        # Said, as a worker of a parallel sweep has a way of its own to start processes, which does not serve here.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        generator=torch.Generator(),  # the global one is left as it is
    )
    for results in loader:
        if isinstance(results, Exception):
            raise results
        yield from results


@dataclass(frozen=True)
class _Tasks(Dataset[Any]):
    """Some results at a time, or an error as it is: the loader would bury it under a traceback."""

    work: Callable[[range], list[Any]]
    count: int

    def __len__(self) -> int:
        return -(-self.count // A_TASK)

    def __getitem__(self, number: int) -> Any:
        try:
            return self.work(range(self.count)[number * A_TASK : (number + 1) * A_TASK])
        except (RsPruneError, OSError) as error:
            return error


def _as_it_is(results: Any) -> Any:
    return results
