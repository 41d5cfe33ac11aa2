"""A pruned net on disk: what it is (JSON) and its weights (safetensors). Nothing is ever unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from rs_prune.errors import RsPruneError
from rs_prune.model.timm_net import TimmNet
from rs_prune.pruning.bands import kept_bands
from rs_prune.pruning.masking import check_masked
from rs_prune.pruning.surgery import plan_from, replay
from rs_prune.results.files import whole
from rs_prune.results.store import read_json, write_json

WEIGHTS = "net.safetensors"
CARD = "net.json"


def save_net(net: nn.Module, folder: Path, card: dict[str, Any]) -> None:
    """Writes `net.safetensors` and `net.json` into the folder.

    Args:
        net: The pruned bare net.
        folder: Made if need be.
        card: `model` (name and kwargs of timm's net), `classes`, `bands` that the net reads, `size`, `scale`, `mean`,
            `std`, `plans`; where bands were removed, `dense_bands` that it was made for; where some are indices,
            `indices`, the two bands of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(net, folder / WEIGHTS)
    write_json(folder / CARD, card)


def load_net(folder: str | Path) -> nn.Module:
    """Rebuilds a pruned net, bit for bit, from the folder that a run left under `<out>/nets/`.

    The dense net is built, the plans are replayed on it, and the weights are loaded strictly; single weights that the
    plans hold at zero are stored as zeros, and checked to be.

    Returns:
        The net in evaluation mode. Its input is (N, bands, H, W): stored values * scale (of an index (a, b) instead
        (a - b) / (a + b)), minus mean, over std (all in `net.json`).

    Raises:
        RsPruneError: When a file is missing, damaged, or does not fit the plan.
    """
    folder = Path(folder)
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise RsPruneError(f"{folder / name}: no such file; name a folder that a run wrote under <out>/nets/")
    card = read_json(folder / CARD)
    try:
        model = card["model"]
        bands = card.get("dense_bands", card["bands"])
        net = TimmNet(name=model["name"], kwargs=model["kwargs"])(len(card["classes"]), len(bands))
        net = replay(net, card["plans"], torch.zeros(1, len(bands), *card["size"]))
        if [bands[place] for place in kept_bands(net) or range(len(bands))] != card["bands"]:
            raise ValueError("bands are not those that the plans leave")
        net.load_state_dict(load_file(folder / WEIGHTS), strict=True)
        check_masked(net, map(plan_from, card["plans"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RsPruneError(f"{folder / CARD}: not a description of a pruned net ({error})") from error
    except RsPruneError as error:
        raise RsPruneError(f"{folder / CARD}: does not describe a net that can be rebuilt: {error}") from error
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RsPruneError(f"{folder / WEIGHTS}: damaged, or not the weights of this net ({reason})") from error
    return net.to(memory_format=torch.channels_last).eval()


def save_weights(net: nn.Module, path: Path) -> None:
    """Writes the net's state as safetensors; a whole file or none."""
    with whole(path) as draft:
        save_file({name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}, draft)


def compressed_mb(net: nn.Module) -> float:
    """Size of the net's values with zeros left out, in 10^6 bytes.

    Each tensor takes one bit a value, which says whether it is zero, and the values that are not; or, where that is
    no less, all its values as they are. (What a general compressor makes of it depends on its version.)
    """
    values = net.state_dict().values()
    bits = (-(-v.numel() // 8) + int(v.count_nonzero()) * v.element_size() for v in values)
    return float(sum(min(short, v.numel() * v.element_size()) for short, v in zip(bits, values, strict=True))) / 1e6


def size_mb(net: nn.Module) -> float:
    """Size of the net's values on disk, in 10^6 bytes, without the file's header of a few kB."""
    return float(sum(value.numel() * value.element_size() for value in net.state_dict().values())) / 1e6
