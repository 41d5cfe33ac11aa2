"""Mean gate times the first-order change of the loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from rs_prune.contracts import Batch, Evidence, Group, Scores
from rs_prune.pruning.measures import checked_images, contributions, joint
from rs_prune.pruning.scores import need_gates, per_group


class AttentionTaylor:
    """Scores a channel by mean gate * root mean squared first-order change of the loss when it goes.

    Ours: what the attention lets through (PCAS, Yamamoto and Maeno 2018, arXiv 1806.05382) and what the loss makes of
    it (Molchanov et al. 2019, arXiv 1906.10771). The root gives both factors the scale of the channel's output.

    Args:
        images: How many training images the change is averaged over.
    """

    def __init__(self, *, images: int = 512) -> None:
        self.images = checked_images(images)

    def measure(self, net: nn.Module, sites: Mapping[str, str], batches: Iterable[Batch]) -> dict[str, Tensor]:
        return contributions(net, sites, batches)

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        need_gates(evidence, "attention_x_taylor")
        gates = per_group(evidence, groups, lambda layer: layer.gate)
        changes = joint(evidence, groups, "attention_x_taylor")
        return {name: gates[name] * changes[name].sqrt() for name in gates}
