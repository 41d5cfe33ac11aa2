"""The one place where configuration becomes objects."""

from __future__ import annotations

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rs_prune.errors import RsPruneError


def build(node: Any, key: str, **kwargs: Any) -> Any:
    """Builds the object that a config node describes by its `_target_`.

    Args:
        node: The config node.
        key: Where it stands in the config; named in errors.
        **kwargs: Arguments that no config holds (paths, counts found at run time).

    Raises:
        RsPruneError: When the node has no target, or the target cannot be imported or refuses its arguments.
    """
    if not OmegaConf.is_config(node) or not isinstance(node, DictConfig) or "_target_" not in node:
        raise RsPruneError(f"{key}: nothing to build here; choose an option with {key.split('.')[0]}=<name>")
    try:
        return instantiate(node, _convert_="all", **kwargs)
    except InstantiationException as error:
        cause: BaseException = error.__cause__ or error
        if isinstance(cause, RsPruneError):
            raise cause from error
        raise RsPruneError(f"{key}: {node['_target_']} cannot be built: {_first_line(cause)}") from error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def is_wandb(logger: DictConfig | None) -> bool:
    """Whether the logger of a configuration is Weights & Biases."""
    return logger is not None and str(logger.get("_target_", "")).endswith("WandbLogger")
