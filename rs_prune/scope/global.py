"""One ranking over the whole net."""

from __future__ import annotations

from collections.abc import Mapping

from rs_prune.contracts import Scores


class Global:
    """Ranks all channels of the net by score / mean score of their group.

    The division makes scores of layers of different scale comparable (as in Molchanov et al. 2017, arXiv 1611.06440,
    who divide by the layer's norm).
    """

    def __call__(self, scores: Scores, saved: Mapping[str, float]) -> Scores:
        return {name: values / values.mean().clamp_min(1e-12) for name, values in scores.items()}
