"""Random scores: the control that every criterion has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from rs_prune.contracts import Evidence, Group, Scores


class Random:
    """Scores that depend on the run's seed and the name alone: the group's, or for single weights the layer's."""

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        return {group.name: _draw(evidence.seed, group.name, (group.channels,)) for group in groups}

    def weights(self, evidence: Evidence) -> dict[str, Tensor]:
        return {name: _draw(evidence.seed, name, layer.weight.shape) for name, layer in evidence.layers.items()}


def _draw(seed: int, name: str, shape: Sequence[int]) -> Tensor:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float64)
