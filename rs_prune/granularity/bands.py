"""Input bands: the net reads fewer of them for good."""

from __future__ import annotations

import numpy as np

from rs_prune.contracts import Plan, RemoveBands, Sight
from rs_prune.errors import DoesNotApply
from rs_prune.pruning.bands import band_group, cost_without, stem
from rs_prune.pruning.gate import INPUT


class Bands:
    """Removes bands from the convolution that reads them; a band is scored like a filter, by the weights that read it.

    The bands are one group, so the scope says nothing. With `attach.input` they carry a gate each, and criteria that
    read gates rank them; after band selection by attention (BS-Nets: Cai, Liu, Cai 2020, arXiv 1904.08269).
    """

    ranks_bands = True

    def __call__(self, sight: Sight) -> Plan:
        layer = stem(sight.net, sight.cost.example)
        now = sight.budget(sight.cost.dense())
        keep = max(1, round(sight.keep * sight.dense))
        try:
            scores = sight.criterion(sight.evidence, [band_group(sight.net, layer)])[INPUT]
        except DoesNotApply as reason:
            if sight.evidence.layers[INPUT].gate is not None:
                raise
            raise DoesNotApply(f"granularity=bands: bands carry gates with attach.input=true only ({reason})") from None
        order = np.argsort(scores.double().numpy(), kind="stable").tolist()
        gone = tuple(sorted(order[: max(0, now - keep)]))
        return Plan((RemoveBands(layer, gone),), cost_without(sight.net, sight.cost, layer, len(gone)), float(keep))
