"""A net looked at before anything is cut: what `scan` and `compare` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from rs_prune.contracts import Batch, Criterion, Scores
from rs_prune.errors import RsPruneError
from rs_prune.job import Job
from rs_prune.pruning.gate import bare, observe
from rs_prune.pruning.graph import trace
from rs_prune.pruning.scores import evidence
from rs_prune.run import dense_net
from rs_prune.steps import measured


class View:
    """A net whose gates have been observed as a run observes them.

    Args:
        job: The run whose net it is.
        net: The net, gated or bare.
        images: How many (None: all) -> batches of training images.
    """

    def __init__(self, job: Job, net: nn.Module, images: Callable[[int | None], Iterator[Batch]]) -> None:
        self.job = job
        self.net = net.to(job.device)
        self.images = images
        self.seen = observe(self.net, images(job.cfg.observe.images))
        self.graph = trace(bare(self.net).cpu(), job.data.example())

    def scores(self, criterion: Criterion) -> Scores:
        """What the criterion gives every channel, from the evidence that it would have in a run.

        Raises:
            DoesNotApply: When it has nothing to say of this net's channels.
        """
        found = measured(criterion, self.net, self.graph.sites(), self.images)
        known = evidence(self.net, self.graph, seed=self.job.cfg.seed, images=self.seen, measured=found)
        return criterion(known, self.graph.groups)


def untrained(job: Job) -> View:
    """The untrained net on four images: what cannot work fails here, before anything is trained."""
    batch = next(job.data.batches("train", limit=4, device=job.device))
    return View(job, job.fresh_net(), lambda _: iter([batch]))


def trained(job: Job) -> View:
    """The dense net that `rs-prune run` with the same words starts from: from the cache, or trained now."""
    return View(job, dense_net(job)[0], lambda count: job.data.batches("train", limit=count, device=job.device))


def checked_images(key: str, images: object) -> int | None:
    """How many images a key asks for, None for all.

    Raises:
        RsPruneError: When it is neither null nor a whole number of at least 1.
    """
    if images is None or (isinstance(images, int) and not isinstance(images, bool) and images >= 1):
        return images
    raise RsPruneError(f"{key}={images}: must be a whole number of at least 1, or null for all")
