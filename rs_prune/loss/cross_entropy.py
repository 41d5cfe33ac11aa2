"""Cross entropy with label smoothing."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


class CrossEntropy:
    """Cross entropy (label smoothing: Szegedy et al. 2016, arXiv 1512.00567).

    Args:
        label_smoothing: Share of the target spread evenly over the classes.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
