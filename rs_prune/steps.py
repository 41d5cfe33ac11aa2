"""What a schedule may do with a net, each step measured and noted down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rs_prune.contracts import Plan, Verbs
from rs_prune.errors import RsPruneError
from rs_prune.job import Job
from rs_prune.pruning.cost import CostModel, measure
from rs_prune.pruning.gate import bare, detach, observe
from rs_prune.pruning.graph import trace
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.surgery import mask_error, remove
from rs_prune.results.provenance import Clock
from rs_prune.training.fit import evaluate, fit, recalibrate


@dataclass(kw_only=True)
class Notes:
    """What the verbs note down while a schedule runs."""

    images: Tensor
    rehearsal: bool = False
    mask_error: float = 0.0
    plans: list[dict[str, Any]] = field(default_factory=list)
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    history: list[list[dict[str, float]]] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)

    def clock(self, stage: str) -> Clock:
        return Clock(self.times, stage)


def verbs(job: Job, notes: Notes) -> Verbs:
    """What the schedule may do, each step noted down. In a rehearsal nothing is trained or evaluated."""
    cfg, data, device = job.cfg, job.data, job.device

    def plan(net: nn.Module, keep: float) -> Plan:
        with notes.clock("observe"):
            images = 0
            if not notes.rehearsal:
                images = observe(net.to(device), data.batches("train", limit=cfg.observe.images, device=device))
        with notes.clock("plan"):
            net = net.cpu()
            plain = bare(net)
            graph = trace(plain, data.example())
            found = evidence(net, graph, seed=cfg.seed, images=images)
            made: Plan = job.granularity(
                scores=job.criterion(found, graph.groups),
                groups=graph.groups,
                cost=CostModel(plain, graph.groups, data.example()),
                scope=job.scope,
                budget=job.budget,
                dense=job.dense_cost,
                keep=keep,
            )
            return made

    def remove_(net: nn.Module, plan: Plan) -> nn.Module:
        net = net.cpu()
        with notes.clock("remove"):
            groups = trace(bare(net), data.example()).groups
            error = mask_error(detach(net), plan, groups, notes.images, tolerance=cfg.mask_check.tolerance)
            small = remove(net, plan, groups)
        if measure(bare(small), data.example()) != (plan.predicted.macs, plan.predicted.params):
            raise RsPruneError("plan: the pruned net does not cost what was predicted; please report this net")
        notes.mask_error = max(notes.mask_error, error)
        notes.plans.append(plan.as_json())
        if not notes.rehearsal:
            notes.accuracy["raw"], _ = accuracies(job, detach(small))
        return small

    def fit_(net: nn.Module, epochs: int) -> nn.Module:
        if notes.rehearsal:
            return net
        if cfg.recalibrate.images:
            net = recalibrate(net, data, cfg.recalibrate.images, device)
            notes.accuracy["recalibrated"], _ = accuracies(job, net)
        words = job.choices
        round_ = len(notes.history)
        with notes.clock("finetune"):
            notes.history.append(
                fit(
                    net,
                    data,
                    epochs=epochs,
                    recipe=job.recipe(cfg.finetune.lr_factor),
                    folder=job.store.work_folder(job.cell_id) / f"fit{round_}",
                    label=f"{words['attention']} {words['criterion']} {words['budget']} {words['keep']:g}",
                    logger=lambda: job.logger(f"finetune-{job.cell_id}"),
                )
            )
        return net

    return Verbs(plan=plan, remove=remove_, detach=detach, fit=fit_, keep=job.budget.keep, epochs=cfg.finetune_epochs)


def accuracies(job: Job, net: nn.Module) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy on validation and test data, and per class on test data. No choice is made from the latter."""
    val, _ = evaluate(net, job.data, "val", job.device)
    test, per_class = evaluate(net, job.data, "test", job.device)
    return {"val": val, "test": test}, per_class


def dense_facts(job: Job, net: nn.Module) -> dict[str, Any]:
    """Accuracies of the gated net and of its folded copy, and how far their logits differ."""
    dense, per_class = accuracies(job, net)
    net = net.to(job.device)
    seen = observe(net, job.data.batches("train", limit=job.cfg.observe.images, device=job.device))
    if not seen:
        return {"accuracy": {"dense": dense, "folded": dense}, "per_class": per_class, "mean_gate_error": 0.0}
    plain = detach(net)
    folded, _ = accuracies(job, plain)
    with torch.inference_mode():
        images = next(job.data.batches("val", limit=256, device=job.device))["image"]
        gated, flat = net.eval()(images), plain.eval()(images)
    error = float((gated - flat).norm() / gated.norm())
    return {"accuracy": {"dense": dense, "folded": folded}, "per_class": per_class, "mean_gate_error": error}
