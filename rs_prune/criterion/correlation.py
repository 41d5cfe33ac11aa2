"""Attention among filters: those that others attend to are kept."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from rs_prune.contracts import Evidence, Group, LayerEvidence, Scores
from rs_prune.errors import RsPruneError
from rs_prune.pruning.scores import per_group


class Correlation:
    """Scores a filter by the attention that it receives from the other filters of its layer.

    Our reading of PFAM (Zhang, Wu, Gu, Han 2020, Electronics 9(8):1209), whose equations could not be read: with the
    filters as the rows of W, E = W W^T and X the softmax over each row of E, filter j scores the sum of X_ij over
    i != j. (The sum of a row is constant and ranks nothing.)

    Args:
        keep: `correlated` keeps the filters that receive most attention, as the paper's abstract says;
            `distinct` those that receive least.
        normalize: Whether rows have Euclidean length 1. On raw rows the diagonal dominates and the score follows
            the L2 norm.
    """

    def __init__(self, *, keep: str = "correlated", normalize: bool = True) -> None:
        if keep not in ("correlated", "distinct"):
            raise RsPruneError(f"criterion.keep={keep}: must be correlated or distinct")
        self.keep = keep
        self.normalize = normalize

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        return per_group(evidence, groups, self._score)

    def _score(self, layer: LayerEvidence) -> Tensor:
        filters = layer.weight.flatten(1).double()
        if self.normalize:
            filters = F.normalize(filters, dim=1)
        attention = (filters @ filters.T).softmax(1)
        received = attention.sum(0) - attention.diagonal()
        return received if self.keep == "correlated" else 1 / received
