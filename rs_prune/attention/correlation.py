"""Attention among the filters of a layer, computed from their weights and trained with the net."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.contracts import Branch, Place
from rs_prune.errors import RsPruneError


class Correlation:
    """Gates a channel by the attention that its filter receives from the other filters of its layer.

    Our learned reading of PFAM (Zhang, Wu, Gu, Han 2020, Electronics 9(8):1209); the closest published method is PAAM
    (arXiv 2210.11114), attention between filters computed from their weights. The gates do not depend on the
    image, so folding them is exact.

    Args:
        dim: Length of queries and keys.
    """

    def __init__(self, *, dim: int = 16) -> None:
        if dim < 1:
            raise RsPruneError(f"attention.dim={dim}: must be at least 1")
        self.dim = dim

    def __call__(self, places: Sequence[Place], net: nn.Module) -> list[Branch]:
        return [CorrelationBranch(net.get_submodule(place.conv), self.dim) for place in places]


class CorrelationBranch(Branch):
    """gate_j = sum over i != j of X_ij, X = softmax over rows of (W Pq^T)(W Pk^T)^T / sqrt(dim).

    The rows of W are the filters, of Euclidean length 1. At the start X is nearly uniform and the gates nearly
    (out - 1) / out. The projections cannot shrink with the filters' inputs: once filters go, the gates are plain
    trained parameters with the values they had. Where only inputs went, they are held at those values.

    Args:
        conv: The convolution whose filters are meant.
        dim: Length of queries and keys.
    """

    varies = False
    last: Tensor

    def __init__(self, conv: nn.Module, dim: int) -> None:
        super().__init__()
        self.__dict__["conv"] = conv  # the net's own, so no part of this module: neither its state nor its parameters
        rows = _filters(conv)
        self.query: nn.Parameter | None = nn.Parameter(0.1 * torch.randn(dim, rows.shape[1]))
        self.key: nn.Parameter | None = nn.Parameter(0.1 * torch.randn(dim, rows.shape[1]))
        self.frozen: nn.Parameter | None
        self.register_parameter("frozen", None)
        self.register_buffer("last", torch.full((len(rows),), torch.nan), persistent=False)

    def received(self) -> Tensor:
        """(out,) attention that each filter receives from the others."""
        if self.frozen is not None:
            return self.frozen
        assert self.query is not None and self.key is not None
        rows = _filters(self.__dict__["conv"])
        if rows.shape[1] != self.query.shape[1]:
            return self._known()
        filters: Tensor = F.normalize(rows, dim=1)
        scores = (filters @ self.query.T) @ (filters @ self.key.T).T
        attention: Tensor = (scores / len(self.query) ** 0.5).softmax(1)
        return attention.sum(0) - attention.diagonal()

    def gates(self, x: Tensor) -> Tensor:
        gates = self.received()
        if gates is not self.last:
            self.last.copy_(gates.detach())
        return gates[None, :, None, None].expand(len(x), -1, 1, 1)

    def keep(self, index: Tensor) -> None:
        values = self._known() if self.frozen is None else self.frozen.detach()
        index = index.to(values.device)
        self.frozen = nn.Parameter(values[index])
        self.last = values[index].clone()
        self.query = self.key = None

    def _known(self) -> Tensor:
        """The gates of the last forward pass."""
        if self.last.isnan().any():
            raise RsPruneError("attention=correlation: no gate was computed before the cut; run the net once first")
        return self.last


def _filters(conv: nn.Module) -> Tensor:
    """(out, in * kh * kw)."""
    weight = conv.weight
    assert isinstance(weight, Tensor)
    return weight.flatten(1)
