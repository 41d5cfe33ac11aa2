"""Train a net with an attention branch, prune it, fine-tune it, measure it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import nn

from rs_prune.contracts import Record
from rs_prune.deploy.artifact import WEIGHTS, save_net, save_weights
from rs_prune.deploy.latency import measure_latency
from rs_prune.describe import band_facts, blank_record, card, costs, publish, split_facts, training_macs
from rs_prune.errors import DoesNotApply
from rs_prune.job import Job
from rs_prune.pruning.gate import bare, observe
from rs_prune.pruning.masking import bake
from rs_prune.results.predictions import PREDICTIONS
from rs_prune.results.store import read_json, write_json
from rs_prune.steps import Notes, accuracies, dense_facts, verbs
from rs_prune.training.bands import data_for
from rs_prune.training.callbacks import EARLY
from rs_prune.training.fit import fit


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
            return store.save(blank_record(job, status="skipped", reason=str(reason)))
        return store.save(prune(job))


def rehearse(job: Job) -> None:
    """The whole schedule on the untrained net, without training: what cannot work fails here, in a second."""
    net = job.fresh_net().to(job.device)
    batch = next(job.data.batches("train", limit=4, device=job.device))
    observe(net, [batch])
    job.schedule(net, verbs(job, Notes(batch=batch, rehearsal=True), net))


def prune(job: Job) -> Record:
    """The method: dense net, schedule, measurement, record."""
    net, dense = dense_net(job)
    notes = Notes(batch=next(job.data.batches("val", limit=16)))
    notes.times["dense"] = dense["seconds"]
    plain = bare(net).cpu()
    start = job.fresh_net() if getattr(job.schedule, "scratch", False) else net
    small = bake(job.schedule(start, verbs(job, notes, net))).cpu()

    record = blank_record(job, status="finished")
    record.plans = notes.plans
    record.cost = {
        "dense": costs(plain, job.data.example()),
        "pruned": costs(small, data_for(small, job.data).example()),
        "predicted": notes.plans[-1]["predicted"],
    }
    with notes.clock("measure"):
        beside = job.store.dense_folder(job.dense_id) / PREDICTIONS if "dense" in dense["accuracy"] else None
        final, final_classes = accuracies(job, small, job.store.predictions_path(job.cell_id), beside)
        timing = {key: job.plain["latency"][key] for key in ("batch", "threads", "seconds")}
        for name, model in (("dense", plain), ("pruned", small)):
            example = data_for(model, job.data).example(job.device)
            record.latency[name] = measure_latency(model.to(job.device), example, **timing)
    record.accuracy = {**dense["accuracy"], **notes.accuracy, "final": final}
    record.per_class = {"dense": dense["per_class"], "final": final_classes}
    record.checks = {"mask_error": notes.mask_error, "mean_gate_error": dense["mean_gate_error"]}
    record.split = split_facts(job)
    record.bands = band_facts(job, small)
    spent = {"dense": training_macs(job, plain, job.cfg.epochs) if start is net else 0, "finetune": notes.training_macs}
    record.training = {"dense": dense["history"], "finetune": notes.history, "macs": spent}
    record.times = notes.times
    publish(job, record)
    save_net(small, job.store.net_folder(job.cell_id), card(job, small, notes.plans))
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
                recipe=job.recipe(loss="dense_loss"),
                folder=folder / "work",
                label=label,
                logger=lambda: job.logger(f"dense-{job.dense_id}"),
                callbacks=job.callbacks(net),
            )
            save_weights(net, folder / WEIGHTS)
            if (folder / "work" / EARLY).exists():  # else a run that was killed after this line goes on here
                (folder / "work" / EARLY).replace(folder / EARLY)
            seconds = time.monotonic() - started
            observed = job.cfg.observe.images
            measured = dense_facts(job, net, folder / PREDICTIONS)
            facts = {"history": history, "seconds": seconds, "observed": observed, **measured}
            write_json(folder / "dense.json", facts)
            shutil.rmtree(folder / "work", ignore_errors=True)
        facts = read_json(folder / "dense.json")
    net.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    if facts.get("observed", job.cfg.observe.images) != job.cfg.observe.images:  # other images, other mean gates
        facts |= dense_facts(job, net)
        net.cpu()
    return net, facts
