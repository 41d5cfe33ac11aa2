"""Adaptive mining loss: cross entropy and an exponential of the distance from the label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rs_prune.errors import RsPruneError


class AdaptiveMining:
    """r * CE + exp(d + d^2), d = |y - yhat| / N; y one-hot, yhat the softmax, N classes; mean over the batch.

    The fine-tuning loss of RemoteTrimmer (Zou et al. 2024, arXiv 2412.12603). The equation leaves open whether d is
    one number per image or one per class, so both readings are here. They differ a lot in strength: a mean distance is
    at most 2/N, and the gradient of a single entry's exponential is spread over N classes once more.

    Args:
        r: Weight of the cross entropy: 0.4 in the paper, 1.0 in its code.
        distance: `mean`: d is the mean of |y - yhat| over the classes, one number per image, as in the paper's code;
            `entry`: d is taken for every class, and the exponentials are averaged over the classes.

    Raises:
        RsPruneError: When r is below 0 or the distance is neither.
    """

    def __init__(self, *, r: float = 0.4, distance: str = "mean") -> None:
        if not r >= 0:
            raise RsPruneError(f"loss.r={r}: must be at least 0")
        if distance not in ("mean", "entry"):
            raise RsPruneError(f"loss.distance={distance}: must be mean or entry")
        self.r = r
        self.distance = distance

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        found = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        wanted = F.one_hot(labels, found.shape[1]).to(found)
        d = (wanted - found.softmax(1)).abs() / found.shape[1]
        if self.distance == "mean":
            d = d.sum(1)
        return self.r * F.cross_entropy(found, labels) + (d + d.square()).exp().mean()
