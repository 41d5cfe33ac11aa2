"""One run's configuration as objects, and the digests of what its results depend on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch import Callback
from omegaconf import DictConfig, OmegaConf
from torch import nn

from rs_prune.build import build, is_wandb
from rs_prune.contracts import Attention, Budget, Criterion, Dataset, Granularity, Schedule, Scope
from rs_prune.errors import RsPruneError
from rs_prune.pruning.bands import stem
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import attach, attach_input, bare
from rs_prune.pruning.graph import trace
from rs_prune.results.store import Store, digest, writable
from rs_prune.scenes.load import Loaded, load
from rs_prune.scenes.splits import in_use, options
from rs_prune.training.datamodule import SceneData
from rs_prune.training.fit import Recipe

RESULTS_VERSION = 2
"""Part of every digest: raised when a change of the code changes results."""

DENSE_KEYS = (
    "model", "attention", "attach", "dense_loss", "penalty", "optimizer", "warmup", "augment", "batch_size", "epochs",
    "seed", "selection",
)  # fmt: skip
LATER_KEYS = ("lr_steps",)
"""Likewise, but left out where they are null, so that what was trained before they were there stays valid."""
CELL_KEYS = (
    "criterion", "granularity", "scope", "budget", "schedule", "loss", "finetune_epochs", "finetune", "observe",
    "recalibrate", "mask_check",
)  # fmt: skip


AS_PUBLISHED = "test_as_published"
"""The selection that picks epochs on test data, as some papers do; only to see whether their numbers come back."""


class Job:
    """Builds every choice of one run, and refuses what cannot be, before anything is trained.

    Args:
        cfg: The composed configuration of `rs-prune run`.

    Raises:
        RsPruneError: When a value is out of its range or a choice cannot be built.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)  # type: ignore[assignment]
        self._check()
        out, cache = Path(cfg.out).expanduser(), Path(cfg.cache).expanduser()
        self.store = Store(out, cache if cache == out / "cache" else writable(cache, out / "cache"))
        self.device = _device(str(cfg.trainer.accelerator))
        torch.set_num_threads(cfg.threads or max(1, (os.cpu_count() or 1) // cfg.workers))
        self.dataset: Dataset = build(cfg.dataset, "dataset")
        self.model = build(cfg.model, "model")
        self.attention: Attention = build(cfg.attention, "attention")
        self.penalty = build(cfg.penalty, "penalty")
        self.criterion: Criterion = build(cfg.criterion, "criterion")
        self.granularity: Granularity = build(cfg.granularity, "granularity")
        self.scope: Scope = build(cfg.scope, "scope")
        self._budget: Budget = build(cfg.budget, "budget")
        self.schedule: Schedule = build(cfg.schedule, "schedule")

    @cached_property
    def loaded(self) -> Loaded:
        cfg = self.cfg
        return load(
            self.dataset,
            identity=digest([self.plain["dataset"], os.environ.get("RS_PRUNE_DATA")]),
            shares=options(self.plain["split"]),
            seed=cfg.split.seed,
            use=in_use(self.plain["split"]),
            cache=self.store.cache,
            cache_gb=float(cfg.cache_gb),
            limit=cfg.limit,
        )

    @cached_property
    def data(self) -> SceneData:
        loaded, cfg = self.loaded, self.cfg
        if cfg.selection == AS_PUBLISHED:
            loaded = replace(loaded, parts=replace(loaded.parts, val=loaded.parts.test))
        return SceneData.of(
            loaded,
            batch_size=cfg.batch_size,
            seed=cfg.seed,
            flips=cfg.augment.flips,
            rotations=cfg.augment.rotations,
        )

    @cached_property
    def budget(self) -> Budget:
        """The budget; one that counts bands has been told which there are."""
        told: Callable[..., Budget] | None = getattr(self._budget, "of", None)
        return told(self.data.scenes.bands) if told else self._budget

    @cached_property
    def dense_cost(self) -> int:
        """The bare dense net's cost in the budget's unit."""
        net, example = self.bare_net(), self.data.example()
        return self.budget(CostModel(net, trace(net, example).groups, example).dense())

    @cached_property
    def dense_id(self) -> str:
        """Digest of everything the trained dense net depends on."""
        identity = dense_identity(self.plain)
        identity |= {"data": self.loaded.fingerprint, "precision": self.plain["trainer"].get("precision")}
        return digest([RESULTS_VERSION, identity])

    @cached_property
    def cell_id(self) -> str:
        """Digest of everything the run's record depends on."""
        paths = getattr(self.scope, "reads", ())
        read = [digest(path.read_bytes().hex()) if path.is_file() else None for path in paths]
        return digest([self.dense_id, {key: self.plain[key] for key in CELL_KEYS}, self.choices, *read])

    @cached_property
    def choices(self) -> dict[str, Any]:
        """The words of the run, as the results table has them."""
        chosen = HydraConfig.get().runtime.choices
        groups = ("attention", "criterion", "granularity", "schedule", "scope", "budget", "loss")
        return {
            "dataset": self.loaded.scenes.name,
            "net": self.cfg.model.name if chosen["model"] == "timm" else chosen["model"],
            **{group: chosen[group] for group in groups},
            "keep": self.budget.keep,
            **{key: self.plain[key] for key in ("seed", "epochs", "finetune_epochs", "selection")},
        }

    def bare_net(self) -> nn.Module:
        """A fresh net; its weights are a function of the seed alone."""
        torch.manual_seed(self.cfg.seed)
        net: nn.Module = self.model(self.data.num_classes, self.data.in_chans)
        return net

    def fresh_net(self) -> nn.Module:
        """A fresh net with its attention attached. The net's own weights do not depend on the attention."""
        net = self.bare_net()
        places = trace(net, self.data.example()).places(
            self.cfg.attach.shortcuts or getattr(self.attention, "shortcuts", False)
        )
        torch.manual_seed(self.cfg.seed + 1)
        only, layer = self.cfg.attach.input == "only", stem(net, self.data.example()) if self.cfg.attach.input else None
        if not only:
            attach(net, places, self.attention)
        if layer is not None:
            attach_input(net, layer, self.attention)
        return net

    def callbacks(self, net: nn.Module) -> list[Callback]:
        """What attention and penalty want to happen while the dense net is trained."""
        example = self.data.example()
        plain = bare(net)
        cost = CostModel(plain, trace(plain, example).groups, example)
        asked = [getattr(choice, "callbacks", None) for choice in (self.attention, self.penalty)]
        return [callback for ask in asked if ask for callback in ask(net, cost, self.cfg.epochs)]

    def recipe(self, lr_factor: float = 1.0, *, loss: str = "loss", teacher: nn.Module | None = None) -> Recipe:
        """How to train: with `lr_factor` of the learning rate, and the loss at that key of the configuration."""
        cfg = self.cfg
        made = build(cfg[loss], loss)
        if getattr(made, "teacher", False) and loss == "dense_loss":
            raise RsPruneError(
                "dense_loss: learns from the trained dense net, which is not there yet; choose another with "
                "loss@dense_loss=cross_entropy"
            )
        return Recipe(
            loss=made,
            teacher=teacher,
            optimizer=build(cfg.optimizer, "optimizer", lr=cfg.optimizer.lr * lr_factor),
            warmup=cfg.warmup,
            lr_steps=self.plain["lr_steps"],
            selection=cfg.selection,
            seed=cfg.seed,
            trainer=self.plain["trainer"],
            live=cfg.workers == 1,
            quiet=cfg.quiet,
        )

    def logger(self, stage: str) -> Any:
        """A Lightning logger for one fit, or False. Nothing is sent anywhere unless the config says so."""
        if "_target_" not in self.cfg.logger:
            return False
        if not self.uses_wandb:
            return build(self.cfg.logger, "logger", name=stage)
        logger = build(self.cfg.logger, "logger", name=stage, id=stage, resume="allow")
        logger.log_hyperparams(self.plain)
        return logger

    @property
    def penalty_name(self) -> str:
        return str(HydraConfig.get().runtime.choices["penalty"])

    @property
    def uses_wandb(self) -> bool:
        return is_wandb(self.cfg.logger)

    def _check(self) -> None:
        cfg = self.cfg
        for key, least in (
            ("epochs", 1),
            ("finetune_epochs", 0),
            ("batch_size", 2),
            ("workers", 1),
            ("seed", 0),
        ):
            if not isinstance(cfg[key], int) or isinstance(cfg[key], bool) or cfg[key] < least:
                raise RsPruneError(f"{key}={cfg[key]}: must be a whole number of at least {least}")
        if not isinstance(cfg.observe.images, int) or cfg.observe.images < 1:
            raise RsPruneError(f"observe.images={cfg.observe.images}: must be a whole number of at least 1")
        if not isinstance(cfg.finetune.lr_factor, (int, float)) or not cfg.finetune.lr_factor > 0:
            raise RsPruneError(f"finetune.lr_factor={cfg.finetune.lr_factor}: must be a number above 0")
        if cfg.attach.input not in (False, True, "only"):
            raise RsPruneError(f"attach.input={cfg.attach.input}: must be false, true or only")
        if not isinstance(cfg.cache_gb, (int, float)) or isinstance(cfg.cache_gb, bool) or not cfg.cache_gb >= 0:
            raise RsPruneError(f"cache_gb={cfg.cache_gb}: must be a number of GB, 0 for no decoded scenes on disk")
        if cfg.selection not in ("val", "last", AS_PUBLISHED):
            raise RsPruneError(f"selection={cfg.selection}: must be val, last or {AS_PUBLISHED}")
        in_use(self.plain["split"])
        if (options(self.plain["split"])["val"] == 0) != (cfg.selection == AS_PUBLISHED):
            raise RsPruneError(
                f"selection={cfg.selection} with split.val={cfg.split.val}: split=published70 goes with "
                f"selection={AS_PUBLISHED}; other splits with selection=val or last"
            )
        steps = self.plain["lr_steps"]
        if steps is not None and (
            not isinstance(steps, list) or not all(isinstance(share, float) and 0 < share < 1 for share in steps)
        ):
            raise RsPruneError(f"lr_steps={steps}: must be shares between 0 and 1, as in [0.5,0.75], or null")
        if cfg.limit is not None and cfg.limit < 1:
            raise RsPruneError(f"limit={cfg.limit}: must be at least 1, or null for all images")


def dense_identity(plain: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that a dense net depends on.

    Keys that came after records had been made count only where they say something new, so that those stay valid.
    """
    identity = {key: plain[key] for key in DENSE_KEYS}
    identity |= {key: plain[key] for key in LATER_KEYS if plain[key] is not None}
    if not plain["attach"].get("input", False):
        identity["attach"] = {key: value for key, value in plain["attach"].items() if key != "input"}
    return identity


def _device(accelerator: str) -> torch.device:
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        if not torch.cuda.is_available():
            raise RsPruneError(f"trainer.accelerator={accelerator}: no GPU is here; use trainer=cpu")
        return torch.device("cuda")
    return torch.device("cpu")
