"""The record of a run, put together from what was measured."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rs_prune.contracts import Record
from rs_prune.deploy.artifact import compressed_mb, size_mb
from rs_prune.job import Job
from rs_prune.pruning.bands import kept_bands
from rs_prune.pruning.cost import filters, measure, sparse
from rs_prune.pruning.graph import trace
from rs_prune.results import provenance
from rs_prune.results.records import UNRECORDED
from rs_prune.scenes.bands import made_of
from rs_prune.scenes.splits import PARTS, folder, write_lists
from rs_prune.training.bands import data_for
from rs_prune.training.fit import close


def blank_record(job: Job, *, status: str, reason: str = "") -> Record:
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


def costs(net: nn.Module, example: Tensor) -> dict[str, float]:
    """What a net takes as it is stored and run; and what it would take where zeros cost nothing."""
    macs, params = measure(net, example)
    sparse_macs, nonzero = sparse(net, example)
    return {
        "macs": macs,
        "params": params,
        "channels": sum(map(filters, trace(net, example).groups)),
        "bands": example.shape[1],
        "size_mb": size_mb(net),
        "nonzero": nonzero,
        "sparse_macs": sparse_macs,
        "compressed_mb": compressed_mb(net),
    }


def training_macs(job: Job, net: nn.Module, epochs: int) -> int:
    """Multiply-adds of training a bare net; a backward pass counts as two forward passes, masked weights as others."""
    example = data_for(net, job.data).example()
    return 3 * len(job.data.parts.train) * epochs * measure(net.cpu(), example)[0]


def split_facts(job: Job) -> dict[str, Any]:
    loaded = job.loaded
    if job.cfg.limit is None:
        lists = job.store.out / "splits" / job.choices["dataset"] / folder(job.plain["split"])
        write_lists(loaded.scenes, loaded.parts, lists)
    return {
        **{part: len(getattr(loaded.parts, part)) for part in PARTS},
        "fingerprint": loaded.fingerprint,
        "duplicates": [list(files) for files in loaded.parts.duplicates],
        "skipped": list(loaded.skipped),
    }


def band_facts(job: Job, net: nn.Module) -> dict[str, list[str]]:
    """The bands that a net was made for and those that it still reads; nothing where it lost none."""
    if kept_bands(net) is None:
        return {}
    return {"dense": list(job.loaded.scenes.bands), "kept": list(data_for(net, job.data).scenes.bands)}


def card(job: Job, net: nn.Module, plans: list[dict[str, Any]]) -> dict[str, Any]:
    loaded, data = job.loaded, data_for(net, job.data)
    facts = band_facts(job, net)
    indices = made_of(data.scenes)
    return {
        "model": {"name": job.model.name, "kwargs": job.model.kwargs},
        "classes": list(loaded.scenes.classes),
        "bands": list(data.scenes.bands),
        **({"dense_bands": facts["dense"]} if facts else {}),
        **({"indices": indices} if indices else {}),
        "size": list(loaded.scenes.size),
        "scale": loaded.scenes.scale,
        "mean": list(data.mean),
        "std": list(data.std),
        "plans": plans,
        "record": job.cell_id,
    }


def publish(job: Job, record: Record) -> None:
    """Adds the results to the fit's Weights & Biases run, if the user asked for one."""
    if job.uses_wandb:
        logger = job.logger(f"finetune-{job.cell_id}")
        keys = ("choices", "accuracy", "cost", "checks")
        logger.experiment.summary.update({key: getattr(record, key) for key in keys})
        close(logger)
