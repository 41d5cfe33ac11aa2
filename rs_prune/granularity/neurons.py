"""Hidden units of dense heads, squeeze layers and MLPs."""

from __future__ import annotations

import numpy as np

from rs_prune.contracts import Plan, Sight
from rs_prune.errors import DoesNotApply
from rs_prune.pruning.planner import checked_widths, plan_groups


class Neurons:
    """Removes hidden units: outputs of linear layers, and of convolutions whose map is a single pixel.

    Those are VGG's dense head, the squeeze layers of SE nets, the MLPs of ConvNeXt. The classes stay.

    Args:
        min_channels: Every group keeps at least so many.
        round_to: Kept units are a multiple of this.
        filters: Whether filters are ranked too, under the same budget.
    """

    def __init__(self, *, min_channels: int = 2, round_to: int = 1, filters: bool = False) -> None:
        self.min_channels, self.round_to = checked_widths(min_channels, round_to)
        self.filters = filters

    def __call__(self, sight: Sight) -> Plan:
        if not sight.graph.hidden:
            raise DoesNotApply(
                f"granularity=neurons: {type(sight.net).__name__} has no hidden units; choose granularity=channels, or "
                "a net with a dense head or squeeze layers such as model=vgg16_bn or model=mobilenetv3_small"
            )
        groups = sight.graph.all if self.filters else sight.graph.hidden
        cost = sight.cost
        ranked = np.isin(cost.names, [group.name for group in groups])
        if sight.budget(cost.predict(np.where(ranked, 1, cost.channels))) == sight.budget(cost.dense()):
            raise DoesNotApply(
                "granularity=neurons: the budget counts filters, and none are removed; choose budget=params or "
                "budget=macs, or granularity.filters=true"
            )
        return plan_groups(sight, groups, cost, min_channels=self.min_channels, round_to=self.round_to)
