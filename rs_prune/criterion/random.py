"""Random scores: the control that every criterion has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from rs_prune.contracts import Evidence, Group, Scores


class Random:
    """Scores that depend on the run's seed and the group's name alone."""

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        scores = {}
        for group in groups:
            digest = hashlib.sha256(f"{evidence.seed}/{group.name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
            scores[group.name] = torch.rand(group.channels, generator=generator, dtype=torch.float64)
        return scores
