"""Learned attention among filters: those that others attend to are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from rs_prune.contracts import Batch, Evidence, Group, Scores
from rs_prune.errors import DoesNotApply
from rs_prune.pruning.scores import per_group


class CorrelationLearned:
    """Scores a filter by the attention from the others of its layer that `attention=correlation` learned.

    The learned variant of `criterion=correlation`; the closest published one is PAAM (arXiv 2210.11114). It reads the
    attention from the branches, which say that they have one by a method `received()`; no image is needed.
    """

    images = 1

    def measure(self, net: nn.Module, sites: Mapping[str, str], batches: Iterable[Batch]) -> dict[str, Tensor]:
        found = {}
        for layer, site in sites.items():
            received = getattr(getattr(net.get_submodule(site), "branch", None), "received", None)
            if received is not None:
                found[layer] = received().detach().cpu()
        return found

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        if all(layer.measured is None for layer in evidence.layers.values()):
            raise DoesNotApply(
                "criterion=correlation_learned reads learned attention among filters, and nothing here has any; "
                "add attention=correlation"
            )
        return per_group(evidence, groups, lambda layer: layer.measured)
