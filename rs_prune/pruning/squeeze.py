"""The two layers of squeeze-excite branches, which shrink with the channels they speak of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """W2 relu(W1 v), both with bias: (…, channels) -> (…, channels).

    Args:
        channels: Of the layer.
        hidden: Hidden units.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, pooled: Tensor) -> Tensor:
        excited: Tensor = self.excite(torch.relu(self.squeeze(pooled)))
        return excited

    def keep(self, index: Tensor) -> None:
        """Shrinks in place to the channels in `index`."""
        index = index.to(self.squeeze.weight.device)
        self.squeeze.weight = nn.Parameter(self.squeeze.weight.detach()[:, index].contiguous())
        self.excite.weight = nn.Parameter(self.excite.weight.detach()[index])
        self.excite.bias = nn.Parameter(self.excite.bias.detach()[index])
        self.squeeze.in_features = self.excite.out_features = len(index)
