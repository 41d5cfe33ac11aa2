"""Focal loss: cross entropy that looks away from what is already right."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rs_prune.errors import RsPruneError


class Focal:
    """-(1 - p)^gamma log p, with p the softmax of the true class; mean over the batch.

    Lin, Goyal, Girshick, He, Dollar 2017 (arXiv 1708.02002), without the weights per class (their alpha). With
    gamma = 0 it is cross entropy.

    Args:
        gamma: How far easy images are looked away from; at least 0.

    Raises:
        RsPruneError: When gamma is below 0.
    """

    def __init__(self, *, gamma: float = 2.0) -> None:
        if not gamma >= 0:
            raise RsPruneError(f"loss.gamma={gamma}: must be at least 0")
        self.gamma = gamma

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_p = F.log_softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
        wrong = -torch.expm1(log_p)  # 1 - p; kept off 0, where the power has no gradient for gamma < 1
        weight = wrong.clamp_min(torch.finfo(wrong.dtype).eps) ** self.gamma
        return (-weight * log_p).mean()
