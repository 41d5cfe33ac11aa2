"""Distillation: the trained dense net teaches the pruned one."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from rs_prune.errors import RsPruneError


class Distill:
    """(1 - weight) * CE + weight * T^2 * KL(teacher || student), both softened by T; mean over the batch.

    Hinton, Vinyals, Dean 2015 (arXiv 1503.02531). The teacher is the dense net that was pruned, in evaluation mode;
    see `Loss`.

    Args:
        temperature: T, by which both nets' logits are divided before the softmax.
        weight: Share of the distillation, between 0 (labels only) and 1 (teacher only).
        label_smoothing: Of the cross entropy.

    Raises:
        RsPruneError: When an argument is out of its range.
    """

    teacher = True

    def __init__(self, *, temperature: float = 4.0, weight: float = 0.5, label_smoothing: float = 0.0) -> None:
        if not temperature > 0:
            raise RsPruneError(f"loss.temperature={temperature}: must be above 0")
        for name, value in (("weight", weight), ("label_smoothing", label_smoothing)):
            if not 0 <= value <= 1:
                raise RsPruneError(f"loss.{name}={value}: must be between 0 and 1")
        self.temperature = temperature
        self.weight = weight
        self.label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        own = F.log_softmax(logits / self.temperature, dim=1)
        taught = F.log_softmax(teacher_logits / self.temperature, dim=1)
        softened = F.kl_div(own, taught, reduction="batchmean", log_target=True) * self.temperature**2
        labelled = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return (1 - self.weight) * labelled + self.weight * softened
