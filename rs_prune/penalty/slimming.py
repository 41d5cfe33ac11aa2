"""Network slimming: an L1 penalty on the scales of batch norms."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from rs_prune.errors import RsPruneError
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import gates
from rs_prune.training.course import net_of


class Slimming:
    """Adds the subgradient of strength * sum |gamma| over all batch norms while the dense net is trained.

    Liu, Li, Shen, Huang, Yan, Zhang 2017 (arXiv 1708.06519), who use 1e-4 and 1e-5. Made for `criterion=bn_scale`.

    Args:
        strength: Weight of the penalty.
    """

    def __init__(self, *, strength: float = 1e-4) -> None:
        if strength < 0:
            raise RsPruneError(f"penalty.strength={strength}: must not be negative")
        self.strength = strength

    def callbacks(self, net: nn.Module, cost: CostModel, epochs: int) -> list[Callback]:
        return [SparseScales(self.strength)]


class SparseScales(Callback):
    """Adds strength * sign(gamma) to the gradient of every batch norm's scale.

    Once per optimiser step, on gradients that mixed precision has unscaled and accumulation has summed.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.scales: list[nn.Parameter] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        inside = {id(part) for _, gate in gates(net_of(pl_module)) for part in gate.branch.modules()}  # BAM has norms
        self.scales = [
            module.weight
            for module in pl_module.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine and id(module) not in inside
        ]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        for scale in self.scales:
            if scale.grad is not None:
                scale.grad.add_(scale.detach().sign(), alpha=self.strength)
