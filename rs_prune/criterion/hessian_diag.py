"""Optimal brain damage: second-order change of the loss, with a diagonal Hessian."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from rs_prune.contracts import Batch, Evidence, Group, LayerEvidence, Scores
from rs_prune.pruning.measures import checked_images, measured, squared_gradients
from rs_prune.pruning.scores import per_group


class HessianDiag:
    """Scores a weight by 1/2 h w^2, a filter by the sum over its weights.

    Optimal brain damage (LeCun, Denker, Solla 1989, "Optimal Brain Damage", NIPS 2). For h, the diagonal of the
    Hessian, stands the empirical Fisher information: the mean over images of the squared gradient of that image's
    loss (as in Theis, Korshunova, Tejani, Huszar 2018, arXiv 1801.05787).

    Args:
        images: How many training images the gradients are taken on, one backward pass each.
    """

    def __init__(self, *, images: int = 64) -> None:
        self.images = checked_images(images)

    def measure(self, net: nn.Module, sites: Mapping[str, str], batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Layer -> mean squared gradient, of the weight's shape; of all layers, as weights are pruned anywhere."""
        return squared_gradients(net, batches)

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores:
        for group in groups:
            for member in group.members:
                measured(evidence, member.layer, "hessian_diag")
        return per_group(evidence, groups, lambda layer: _saliency(layer).flatten(1).sum(1))

    def weights(self, evidence: Evidence) -> dict[str, Tensor]:
        for name in evidence.layers:
            measured(evidence, name, "hessian_diag")
        return {name: _saliency(layer) for name, layer in evidence.layers.items()}


def _saliency(layer: LayerEvidence) -> Tensor:
    assert layer.measured is not None
    return layer.weight.double().square() * layer.measured.double() / 2
