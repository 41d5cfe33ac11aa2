"""Train a net with an attention branch, prune it, fine-tune it, measure it."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor, nn

from rs_prune.contracts import Plan, Record, Verbs
from rs_prune.deploy.artifact import WEIGHTS, save_net, save_weights, size_mb
from rs_prune.deploy.latency import measure_latency
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.job import Job
from rs_prune.pruning.cost import CostModel, measure
from rs_prune.pruning.gate import bare, detach, observe
from rs_prune.pruning.graph import trace
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.surgery import mask_error, remove
from rs_prune.results import provenance
from rs_prune.results.store import read_json, write_json
from rs_prune.scenes.splits import PARTS, write_lists
from rs_prune.training.fit import close, evaluate, fit, recalibrate

UNRECORDED = ("out", "cache", "logger", "workers", "threads", "quiet")
"""Keys that say where and how a run is carried out, not what it is."""


def main(cfg: DictConfig) -> Path:
    """Makes the record of one run, or finds it made. Returns its path."""
    job = Job(cfg)
    store, cell = job.store, job.cell_id
    with store.lock(store.work_folder(cell)):
        if store.finished(cell):
            return store.record_path(cell)
        try:
            rehearse(job)
        except DoesNotApply as reason:
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                raise
            return store.save(_record(job, status="skipped", reason=str(reason)))
        return store.save(prune(job))


def rehearse(job: Job) -> None:
    """The whole schedule on the untrained net, without training: what cannot work fails here, in a second."""
    net = job.fresh_net()
    images = next(job.data.batches("train", limit=4))["image"]
    observe(net, [{"image": images}])
    job.schedule(net, verbs(job, Notes(images=images, rehearsal=True)))


def prune(job: Job) -> Record:
    """The method: dense net, schedule, measurement."""
    net, dense = dense_net(job)
    notes = Notes(images=next(job.data.batches("val", limit=16))["image"])
    notes.times["dense"] = dense["seconds"]
    small = job.schedule(net, verbs(job, notes)).cpu()

    with notes.clock("measure"):
        plain = bare(net).cpu()
        example = job.data.example()
        final, final_classes = accuracies(job, small)
        latency = {
            name: measure_latency(_fast(model), _fast_input(example, job.cfg.latency.batch), **_timing(job))
            for name, model in (("dense", plain), ("pruned", small))
        }
    record = _record(job, status="finished")
    record.accuracy = {**dense["accuracy"], **notes.accuracy, "final": final}
    record.per_class = {"dense": dense["per_class"], "final": final_classes}
    record.cost = {
        "dense": _cost(plain, example),
        "pruned": _cost(small, example),
        "predicted": notes.plans[-1]["predicted"],
    }
    record.latency = latency
    record.checks = {"mask_error": notes.mask_error, "mean_gate_error": dense["mean_gate_error"]}
    record.plans = notes.plans
    record.split = _split(job)
    record.training = {
        "dense": dense["history"],
        "finetune": notes.history,
        "macs": _training_macs(job, record),
    }
    record.times = notes.times
    if job.uses_wandb:
        logger = job.logger(f"finetune-{job.cell_id}")
        logger.experiment.summary.update(
            {key: getattr(record, key) for key in ("choices", "accuracy", "cost", "checks")}
        )
        close(logger)
    save_net(small, job.store.net_folder(job.cell_id), _card(job, notes.plans))
    return record


def dense_net(job: Job) -> tuple[nn.Module, dict[str, Any]]:
    """The trained dense net with its gates, from the cache or made now; workers wait for one another."""
    folder = job.store.dense_folder(job.dense_id)
    net = job.fresh_net()
    with job.store.lock(folder):
        if not (folder / "dense.json").exists():
            started = time.monotonic()
            words = job.choices
            label = f"{words['dataset']} {words['net']} attention={words['attention']}"
            history = fit(
                net,
                job.data,
                epochs=job.cfg.epochs,
                recipe=job.recipe(),
                folder=folder / "work",
                label=label,
                logger=lambda: job.logger(f"dense-{job.dense_id}"),
            )
            save_weights(net, folder / WEIGHTS)
            seconds = time.monotonic() - started
            facts = {"history": history, "seconds": seconds, **_dense_facts(job, net)}
            write_json(folder / "dense.json", facts)
            shutil.rmtree(folder / "work", ignore_errors=True)
        facts = read_json(folder / "dense.json")
    net.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    return net, facts


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

    def clock(self, stage: str) -> provenance.Clock:
        return provenance.Clock(self.times, stage)


def accuracies(job: Job, net: nn.Module) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy on validation and test data, and per class on test data. No choice is made from the latter."""
    val, _ = evaluate(net, job.data, "val", job.device)
    test, per_class = evaluate(net, job.data, "test", job.device)
    return {"val": val, "test": test}, per_class


def _dense_facts(job: Job, net: nn.Module) -> dict[str, Any]:
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


def _record(job: Job, *, status: str, reason: str = "") -> Record:
    config = {key: value for key, value in job.plain.items() if key not in UNRECORDED}
    config["dataset"] = {key: value for key, value in config["dataset"].items() if key != "root"}
    return Record(
        digest=job.cell_id,
        status=status,
        reason=reason,
        choices=job.choices,
        config=config,
        versions=provenance.versions(),
        git=provenance.git(),
        hardware=provenance.hardware(job.device),
        created=provenance.now(),
    )


def _cost(net: nn.Module, example: Tensor) -> dict[str, float]:
    macs, params = measure(net, example)
    graph = trace(net, example)
    return {
        **asdict(CostModel(net, graph.groups, example).dense()),
        "macs": macs,
        "params": params,
        "size_mb": size_mb(net),
    }


def _training_macs(job: Job, record: Record) -> dict[str, float]:
    """Multiply-adds of training, taking a backward pass as two forward passes; branches not counted."""
    images = 3 * len(job.data.parts.train)
    return {
        "dense": images * record.cost["dense"]["macs"] * job.cfg.epochs,
        "finetune": images * record.cost["pruned"]["macs"] * job.cfg.finetune_epochs,
    }


def _split(job: Job) -> dict[str, Any]:
    loaded = job.loaded
    words, shares = job.choices, job.cfg.split
    name = f"seed{shares.seed}-{shares.train:g}-{shares.val:g}-{shares.test:g}"
    if job.cfg.limit is None:
        write_lists(loaded.scenes, loaded.parts, job.store.out / "splits" / words["dataset"] / name)
    return {
        **{part: len(getattr(loaded.parts, part)) for part in PARTS},
        "fingerprint": loaded.fingerprint,
        "duplicates": [list(files) for files in loaded.parts.duplicates],
        "skipped": list(loaded.skipped),
    }


def _card(job: Job, plans: list[dict[str, Any]]) -> dict[str, Any]:
    loaded = job.loaded
    return {
        "model": {"name": job.model.name, "kwargs": job.model.kwargs},
        "classes": list(loaded.scenes.classes),
        "bands": list(loaded.scenes.bands),
        "size": list(loaded.scenes.size),
        "scale": loaded.scenes.scale,
        "mean": list(loaded.mean),
        "std": list(loaded.std),
        "plans": plans,
        "record": job.cell_id,
    }


def _fast(net: nn.Module) -> nn.Module:
    return net.to(memory_format=torch.channels_last).eval()


def _fast_input(example: Tensor, batch: int) -> Tensor:
    return example.repeat(batch, 1, 1, 1).contiguous(memory_format=torch.channels_last)


def _timing(job: Job) -> dict[str, Any]:
    return {"threads": job.cfg.latency.threads, "seconds": job.cfg.latency.seconds}
