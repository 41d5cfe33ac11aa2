"""An experiment's file as the sweeps that it stands for."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig

from rs_prune.errors import RsPruneError


@dataclass(frozen=True)
class Arm:
    """One sweep of an experiment.

    Attributes:
        name: What tables call it.
        words: The words of `rs-prune run -m`.
        runs: How many runs they stand for.
    """

    name: str
    words: tuple[str, ...]
    runs: int


def arms(cfg: DictConfig) -> list[Arm]:
    """The arms of a composed `rs-prune reproduce`, in the order of the file.

    Of two words with the same key the later one counts: those of every run, of the scale, of the arm, of the command. A
    smoke test takes the words of the scale `cpu`, then, before the command's, those that make any run a matter of
    seconds, and of every sweep the first value.

    Raises:
        RsPruneError: When there is no such scale or arm.
    """
    scale = str(cfg.scale)
    scales = ("full", "cpu", "smoke")
    if scale not in scales:
        raise RsPruneError(f"scale={scale}: must be one of {', '.join(scales)}")
    if not isinstance(cfg.workers, int) or cfg.workers < 1:
        raise RsPruneError(f"workers={cfg.workers}: must be a whole number from 1 on")
    chosen = cfg.arms if cfg.only is None else cfg.only
    only = [str(name) for name in chosen] if isinstance(chosen, (ListConfig, DictConfig)) else [str(chosen)]
    if not only:
        raise RsPruneError(f"only=[]: experiment={cfg.item} has the arms {', '.join(cfg.arms)}")
    for name in only:
        if name not in cfg.arms:
            raise RsPruneError(f"only={name}: experiment={cfg.item} has the arms {', '.join(cfg.arms)}")
    for word in shlex.split(str(cfg.words or "")):
        if word.partition("=")[0].lstrip("+~") in ("out", "workers", "launcher"):
            raise RsPruneError(f"-- {word}: is for all runs together; set out= or workers= before the --")
    where = f"logger={cfg.run_logger} quiet={str(cfg.quiet).lower()}"
    where += "".join(f" {shlex.quote(f'{key}={_quoted(str(cfg[key]))}')}" for key in ("out", "cache"))
    if cfg.workers > 1:
        where += f" launcher=parallel workers={cfg.workers}"
    found = []
    for name, own in cfg.arms.items():
        if name in only:
            size = cfg.scales["full" if scale == "full" else "cpu"]
            if scale == "smoke":
                words = _first(_merged(cfg.every, size, own, cfg.smoke, cfg.smoke_arms.get(name), where, cfg.words))
            else:
                words = _merged(cfg.every, size, own, where, cfg.words)
            found.append(Arm(str(name), words, _runs(words)))
    return found


def wandb_sweep(item: str, arm: Arm) -> str:
    """The arm as a Weights & Biases sweep file: `wandb sweep <file>`, then `wandb agent`."""
    parameters: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(list(arm.words)):
        key = override.get_key_element()
        if override.is_sweep_override():
            parameters[key] = {"values": list(override.sweep_string_iterator())}
        else:
            parameters[key] = {"value": override.get_value_element_as_str()}
    parameters["logger"] = {"value": "wandb"}
    command = ["${env}", "rs-prune", "run", "${args_no_hyphens}"]
    sweep = {"name": f"{item} {arm.name}", "method": "grid", "command": command, "parameters": parameters}
    return yaml.safe_dump(sweep, sort_keys=False)


def _quoted(value: str) -> str:
    """A path as a word of the command line that Hydra reads as it is."""
    return value if re.fullmatch(r"[\w./-]+", value) else '"' + value.replace('"', '\\"') + '"'


def _merged(*texts: str) -> tuple[str, ...]:
    words: dict[str, str] = {}
    for text in texts:
        for word in shlex.split(str(text or "")):
            key, sign, value = word.partition("=")
            if not sign:
                raise RsPruneError(f"words: {word} is not of the form key=value")
            words.pop(key, None)
            words[key] = value
    return tuple(f"{key}={value}" for key, value in words.items())


def _first(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words with the first value of every sweep alone."""
    parsed = OverridesParser.create().parse_overrides(list(words))
    return tuple(
        f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
        if override.is_sweep_override()
        else word
        for word, override in zip(words, parsed, strict=True)
    )


def _runs(words: tuple[str, ...]) -> int:
    overrides = OverridesParser.create().parse_overrides(list(words))
    return math.prod(len(list(o.sweep_iterator())) for o in overrides if o.is_sweep_override())
