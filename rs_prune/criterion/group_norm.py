"""Group norm: a channel scores by all the parameters that go with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rs_prune.contracts import Evidence, Group, Scores, Touched


class GroupNorm:
    """Scores a channel by the L2 norm of all that its removal takes out of convolutions, linear layers and norms.

    Those are the filters that make it, the slices of the layers that read it, the classifier's too, and its scales: the
    importance of a dependency group in DepGraph (Fang, Ma, Song, Mi, Wang 2023, arXiv 2301.12900).
    """

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        scores: Scores = {}
        for group in groups:
            parts = [_energy(evidence.weights[t.layer], t) for t in group.touched if t.layer in evidence.weights]
            for member in group.members:
                gamma = evidence.layers[member.layer].gamma
                if gamma is not None:
                    parts.append(gamma.double().square()[torch.tensor(member.index)].view(group.channels, -1).sum(1))
            scores[group.name] = torch.stack(parts).sum(0).sqrt()
        return scores


def _energy(weight: Tensor, touched: Touched) -> Tensor:
    """Sum of squares of what every channel (or bundle) holds of a layer: (channels,)."""
    energy = weight.double().square().transpose(0, 0 if touched.side == "out" else 1).flatten(1).sum(1)
    return energy[torch.tensor(touched.index)].sum(1)
