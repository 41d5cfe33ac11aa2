"""One ranking over the whole net, by score per multiply-add saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rs_prune.contracts import Group, Scores


class GlobalMacs:
    """Ranks all channels by (score / mean score of the group) / (MACs that one channel of the group saves)."""

    def __call__(self, scores: Scores, saved: Mapping[str, float], groups: Sequence[Group]) -> Scores:
        return {
            name: values / values.mean().clamp_min(torch.finfo(torch.float64).tiny) / max(saved[name], 1.0)
            for name, values in scores.items()
        }
