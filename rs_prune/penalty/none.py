"""No penalty."""

from __future__ import annotations

from lightning.pytorch import Callback
from torch import nn

from rs_prune.pruning.cost import CostModel


class NoPenalty:
    """Trains the dense net on its loss alone."""

    def callbacks(self, net: nn.Module, cost: CostModel, epochs: int) -> list[Callback]:
        return []
