"""One ranking over the whole net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rs_prune.contracts import Group, Scores


class Global:
    """Ranks all channels of the net by score / mean score of their group.

    The division makes scores of layers of different scale comparable (as in Molchanov et al. 2017, arXiv 1611.06440,
    who divide by the layer's norm). Single weights are ranked by their scores as they are.
    """

    weights = "net"

    def __call__(self, scores: Scores, saved: Mapping[str, float], groups: Sequence[Group]) -> Scores:
        return {
            name: values / values.mean().clamp_min(torch.finfo(torch.float64).tiny) for name, values in scores.items()
        }
