"""What a schedule may do with a net, each step measured and noted down."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.contracts import Batch, Criterion, Edit, MaskWeights, Plan, Sight, Verbs
from rs_prune.describe import training_macs
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.job import Job
from rs_prune.pruning.bands import band_evidence, stem
from rs_prune.pruning.cost import CostModel, measure, sparse
from rs_prune.pruning.gate import INPUT, bare, detach, gates, observe
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.masking import bake, hold, masked_channels, masked_weights, not_maskable
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.surgery import mask_error, remove
from rs_prune.pruning.weights import weight_layers
from rs_prune.results import predictions
from rs_prune.results.provenance import Clock
from rs_prune.training.bands import batch_for, data_for
from rs_prune.training.callbacks import EARLY
from rs_prune.training.constant_gates import ConstantGates
from rs_prune.training.fit import evaluate, fit, predict, recalibrate, score


@dataclass(kw_only=True)
class Notes:
    """What the verbs note down while a schedule runs."""

    batch: Batch
    rehearsal: bool = False
    mask_error: float | None = None  # of runs that only mask weights there is none
    plans: list[dict[str, Any]] = field(default_factory=list)
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    history: list[list[dict[str, float]]] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    training_macs: int = 0

    def clock(self, stage: str) -> Clock:
        return Clock(self.times, stage, self.running)


def verbs(job: Job, notes: Notes, dense: nn.Module) -> Verbs:
    """What the schedule may do, each step noted down. In a rehearsal nothing is trained or evaluated.

    Args:
        job: The run.
        notes: Where the steps are noted.
        dense: The dense net: the teacher of `loss=distill`.
    """
    cfg, data, device = job.cfg, job.data, job.device
    scratch = bool(getattr(job.schedule, "scratch", False))
    total = cfg.finetune_epochs + (cfg.epochs if scratch else 0)
    loss = job.recipe().loss
    _refuse_idle_choices(job, dense)
    teacher = copy.deepcopy(dense).eval() if getattr(loss, "teacher", False) else None

    def images_for(net: nn.Module, count: int | None) -> Iterator[Batch]:
        if notes.rehearsal:
            return iter([batch_for(net, notes.batch)])
        return data_for(net, data).batches("train", limit=count, device=device)

    def graph_of(net: nn.Module) -> tuple[nn.Module, Graph]:
        plain = bake(bare(net)).cpu()
        return plain, trace(plain, data_for(net, data).example())

    def plan(net: nn.Module, keep: float) -> Plan:
        with notes.clock("observe"):
            count = observe(net.to(device), images_for(net, cfg.observe.images))
            plain, graph = graph_of(net)
            example = data_for(net, data).example()
            whole = getattr(job.granularity, "ranks_weights", False)
            sites = {layer: layer for layer in weight_layers(plain) if whole} | graph.sites()
            reader = stem(plain, example) if getattr(job.granularity, "ranks_bands", False) else None
            if reader is not None:
                sites = {INPUT: reader}
            found = measured(job.criterion, net, sites, lambda count: images_for(net, count))
            if reader is None:
                known = evidence(net, graph, seed=cfg.seed, images=count, measured=found)
            else:
                known = band_evidence(net, reader, seed=cfg.seed, images=count, measured=found)
        with notes.clock("plan"):
            net.cpu()
            return job.granularity(
                Sight(
                    net=plain,
                    graph=graph,
                    cost=CostModel(plain, graph.groups, example, graph.hidden),
                    evidence=known,
                    criterion=job.criterion,
                    scope=job.scope,
                    budget=job.budget,
                    dense=job.dense_cost,
                    keep=keep,
                    loss=mean_loss,
                )
            )

    @torch.no_grad()
    def mean_loss(net: nn.Module) -> float:
        total = seen = 0.0
        net = net.to(device).eval()
        for batch in images_for(net, cfg.observe.images):
            total += float(F.cross_entropy(net(batch["image"]), batch["label"], reduction="sum"))
            seen += len(batch["label"])
        return total / seen

    def remove_(net: nn.Module, plan: Plan) -> nn.Module:
        net = net.cpu()
        with notes.clock("remove"):
            graph = graph_of(net)[1]
            if any(isinstance(edit, MaskWeights) for edit in plan.edits):
                small = hold(net, plan, graph)
                reached = sparse(bake(bare(small)), data_for(small, data).example())
            else:
                net = bake(net)
                images = batch_for(net, notes.batch)["image"].cpu()
                error = mask_error(detach(net), plan, graph.all, images, tolerance=cfg.mask_check.tolerance)
                notes.mask_error = max(notes.mask_error or 0.0, error)
                small = remove(net, plan, graph.all)
                reached = measure(bare(small), data_for(small, data).example())
        if reached != (plan.predicted.macs, plan.predicted.params):
            raise RsPruneError("plan: the pruned net does not cost what was predicted; please report this net")
        notes.plans.append(plan.as_json())
        if not notes.rehearsal:
            notes.accuracy["raw"], _ = accuracies(job, detach(small))
        return small

    def mask(net: nn.Module, plan: Plan) -> nn.Module:
        if getattr(job.granularity, "ranks_blocks", False):
            raise not_maskable("granularity=layers: blocks")
        return hold(net.cpu(), plan, graph_of(net)[1])

    def masked(net: nn.Module) -> Plan:
        plain, graph = graph_of(net)
        cost = CostModel(plain, graph.groups, data.example(), graph.hidden)
        edits: tuple[Edit, ...] = masked_channels(net, graph)
        if edits:
            gone = {edit.group: len(edit.channels) for edit in edits}  # type: ignore[union-attr]
            left = [count - gone.get(name, 0) for name, count in zip(cost.names, cost.channels.tolist(), strict=True)]
            return Plan(edits, cost.predict(np.array(left, np.int64)))
        macs, params = sparse(plain, data.example())
        return Plan(masked_weights(net), replace(cost.dense(), macs=macs, params=params))

    def fit_(
        net: nn.Module, epochs: int, callbacks: Sequence[Callback] = (), lr_factor: float | None = None
    ) -> nn.Module:
        if notes.rehearsal:
            return net
        if cfg.recalibrate.images and notes.plans:  # some schedules train before anything is removed
            net = recalibrate(net, data_for(net, data), cfg.recalibrate.images, device)
            notes.accuracy["recalibrated"], _ = accuracies(job, net)
        words = job.choices
        round_ = len(notes.history)
        with notes.clock("finetune"):
            notes.history.append(
                fit(
                    net,
                    data_for(net, data),
                    epochs=epochs,
                    recipe=job.recipe(cfg.finetune.lr_factor if lr_factor is None else lr_factor, teacher=teacher),
                    folder=job.store.work_folder(job.cell_id) / f"fit{round_}",
                    label=f"{words['attention']} {words['criterion']} {words['budget']} {words['keep']:g}",
                    logger=lambda: job.logger(f"finetune-{job.cell_id}"),
                    callbacks=callbacks,
                )
            )
        notes.training_macs += training_macs(job, bake(bare(net)), epochs)
        observe(net.to(device), images_for(net, cfg.observe.images))  # a schedule may fold the gates next
        return net

    def settle(net: nn.Module, until: float) -> list[Callback]:
        if not any(gate.branch.varies for _, gate in gates(net)):
            return []
        return [ConstantGates(lambda net: observe(net, images_for(net, cfg.observe.images)), until=until, epochs=total)]

    def early() -> nn.Module:
        net = job.fresh_net()
        if not notes.rehearsal:
            net.load_state_dict(load_file(job.store.dense_folder(job.dense_id) / EARLY), strict=True)
        observe(net.to(device), images_for(net, cfg.observe.images))
        return net

    return Verbs(
        plan=plan,
        remove=remove_,
        mask=mask,
        masked=masked,
        detach=detach,
        bare=bare,
        fit=fit_,
        settle=settle,
        early=early,
        keep=job.budget.keep,
        epochs=total,
    )


def _refuse_idle_choices(job: Job, dense: nn.Module) -> None:
    """Refuses choices that the schedule or the plan would leave without effect, or work against.

    Raises:
        DoesNotApply: Naming both and what to choose.
    """
    scratch = bool(getattr(job.schedule, "scratch", False))
    teacher = getattr(job.recipe().loss, "teacher", False)
    bands = bool(getattr(job.granularity, "ranks_bands", False))
    if bands != hasattr(job.budget, "of"):
        raise DoesNotApply(
            f"granularity={job.choices['granularity']} budget={job.choices['budget']}: input bands are counted, and "
            "nothing else is counted so; choose granularity=bands with budget=bands"
        )
    if bands and teacher:
        raise DoesNotApply(
            f"loss={job.choices['loss']} learns from the dense net, which reads bands that the pruned net does not; "
            "choose loss=cross_entropy"
        )
    if teacher and scratch:
        raise DoesNotApply(
            f"loss={job.choices['loss']} learns from the trained dense net, and schedule={job.choices['schedule']} "
            "trains from scratch; choose loss=cross_entropy"
        )
    if scratch and job.callbacks(dense):
        raise DoesNotApply(
            f"attention={job.choices['attention']} penalty={job.penalty_name} shape the dense net while it trains, "
            f"and schedule={job.choices['schedule']} trains a net of its own; choose another schedule"
        )
    if getattr(job.attention, "closes_to_macs", False):
        fitting = {
            "budget": ("macs",),
            "scope": ("global", "global_macs"),
            "granularity": ("channels",),
            "criterion": ("attention", "cap", "attention_x_taylor"),
        }
        for key, options in fitting.items():
            if job.choices[key] not in options:
                raise DoesNotApply(
                    f"attention={job.choices['attention']} closes gates until a budget of multiply-adds is met, and "
                    f"{key}={job.choices[key]} would cut other channels; choose {key}={options[0]}"
                )


def measured(
    criterion: Criterion,
    net: nn.Module,
    sites: Mapping[str, str],
    images: Callable[[int | None], Iterator[Batch]],
) -> dict[str, Tensor]:
    """What the criterion measures by itself, by layer; nothing if it needs no data.

    Args:
        criterion: The criterion.
        net: The net as it is, gated and masked, on the device of the images.
        sites: Layer -> the module whose output its gate sits on, or would; `input` -> the convolution that reads the
            bands.
        images: How many (None: all) -> batches of training images.
    """
    look: Callable[..., dict[str, Tensor]] | None = getattr(criterion, "measure", None)
    return look(bake(net), sites, images(criterion.images)) if look else {}  # type: ignore[attr-defined]


def accuracies(
    job: Job, net: nn.Module, keep: Path | None = None, dense: Path | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy on validation and test data, and per class on test data. No choice is made from the latter.

    Args:
        job: The run.
        net: The net.
        keep: Where its predictions of the test images are kept, or None.
        dense: The file of those of the dense net, which are then kept beside them if it is there.
    """
    data = data_for(net, job.data)
    val, _ = evaluate(net, data, "val", job.device)
    predicted = predict(net, data, "test", job.device)
    if keep is not None:
        predictions.keep(keep, job.loaded, predicted.numpy(), dense)
    test, per_class = score(predicted, data, "test")
    return {"val": val, "test": test}, per_class


def dense_facts(job: Job, net: nn.Module, keep: Path | None = None) -> dict[str, Any]:
    """Accuracies of the gated net and of its folded copy, and how far their logits differ.

    A net some of whose gates are closed for good is no dense net any more: its accuracy is called `closed`.
    Its predictions of the test images are kept in the file `keep`.
    """
    dense, per_class = accuracies(job, net, keep)
    net = net.to(job.device)
    seen = observe(net, job.data.batches("train", limit=job.cfg.observe.images, device=job.device))
    if not seen:
        return {"accuracy": {"dense": dense, "folded": dense}, "per_class": per_class, "mean_gate_error": 0.0}
    stage = "closed" if any((gate.mean == 0).any() for _, gate in gates(net)) else "dense"
    plain = detach(net)
    folded, _ = accuracies(job, plain)
    with torch.inference_mode():
        images = next(job.data.batches("val", limit=256, device=job.device))["image"]
        gated, flat = net.eval()(images), plain.eval()(images)
    error = float((gated - flat).norm() / gated.norm())
    return {"accuracy": {stage: dense, "folded": folded}, "per_class": per_class, "mean_gate_error": error}
