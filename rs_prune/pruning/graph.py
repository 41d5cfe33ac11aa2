"""Coupled channels of a net, as torch-pruning's dependency graph gives them.

DepGraph: Fang, Ma, Song, Mi, Wang 2023 (arXiv 2301.12900). The graph is traced once; what comes out are plain
values (`Group`), so the library does not reach further than this file.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library warns about optional packages on import
    import torch_pruning as tp

from rs_prune.contracts import Group, Member, Place, Touched
from rs_prune.errors import RsPruneError

CUTTABLE = (nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class Graph:
    """What the tracing of one bare net gives.

    Attributes:
        groups: The groups whose channels can be removed: those that convolutions with a feature map larger
            than one pixel produce. Squeeze layers and dense heads are hidden units, not filters.
        norms: Convolution -> the norm that directly follows it.
        refused: Name of a group that is left whole -> why.
    """

    groups: tuple[Group, ...]
    norms: dict[str, str]
    refused: dict[str, str]

    def places(self, shortcuts: bool = False) -> tuple[tuple[Place, ...], ...]:
        """Where gates go, group by group: the norm behind every prunable convolution, else the convolution.

        Args:
            shortcuts: Whether shortcut projections are gated too.
        """
        return tuple(
            tuple(
                Place(self.norms.get(member.layer, member.layer), len(member.index), group.name, member.layer)
                for member in group.members
                if shortcuts or not is_shortcut(member.layer)
            )
            for group in self.groups
        )

    def sites(self) -> dict[str, str]:
        """Prunable layer -> the module whose output its gate sits on, or would."""
        layers = [member.layer for group in self.groups for member in group.members]
        return {layer: self.norms.get(layer, layer) for layer in layers}


def is_shortcut(layer: str) -> bool:
    """Whether a layer is a shortcut projection, by the names that timm and torchvision give them."""
    return any(part in ("downsample", "shortcut", "conv_skip") for part in layer.split("."))


def trace(net: nn.Module, example: Tensor) -> Graph:
    """Traces a bare net.

    Args:
        net: The net without gates. Left as it was.
        example: (1, C, H, W) input on the net's device.

    Raises:
        RsPruneError: When the net cannot be traced, or has no group that can be pruned.
    """
    training = net.training
    flags = [parameter.requires_grad for parameter in net.parameters()]
    names = {module: name for name, module in net.named_modules()}
    try:
        net.requires_grad_(True)
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _map_sizes(net) as maps:  # noted during the library's own forward pass
                dependencies = tp.DependencyGraph().build_dependency(net, example, verbose=False)
            found = list(dependencies.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))
    except RsPruneError:
        raise
    except Exception as error:
        raise RsPruneError(
            f"model: {type(net).__name__} cannot be traced for pruning ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''})"
        ) from error
    finally:
        net.train(training)
        for parameter, flag in zip(net.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)

    groups: list[Group] = []
    refused: dict[str, str] = {}
    for items in found:
        group, reason = _group(items, names, maps)
        if group is None:
            continue
        if reason:
            refused[group.name] = reason
        else:
            groups.append(group)
    if not groups:
        why = next(iter(refused.items()), None)
        raise RsPruneError(
            f"model: {type(net).__name__} has no channels that can be pruned" + (f"; {why[0]}: {why[1]}" if why else "")
        )
    order = {name: place for place, name in enumerate(names.values())}
    groups.sort(key=lambda group: order[group.name])
    return Graph(tuple(groups), _following_norms(dependencies, names), refused)


def _group(items: Sequence[object], names: dict[nn.Module, str], maps: dict[str, int]) -> tuple[Group | None, str]:
    """One group of the library as our value, and why it must stay whole ("" if it need not)."""
    root = items[0].dep.target.module  # type: ignore[attr-defined]
    name = names[root]
    channels = int(root.weight.shape[0])
    touched: dict[tuple[str, str], list[list[int]]] = {}
    reason = ""
    for item in items:
        module = item.dep.target.module  # type: ignore[attr-defined]
        if isinstance(module, tp.ops._OutputOp):
            return None, ""  # the classifier: its outputs are the classes
        if isinstance(module, nn.Parameter):
            reason = "a bare parameter carries its channels"
            continue
        if module not in names:
            continue  # an addition, a concat, a view: no weights of its own
        layer = names[module]
        if not isinstance(module, CUTTABLE):
            reason = f"{layer} ({type(module).__name__}) mixes its channels"
            continue
        grouped = isinstance(module, nn.Conv2d) and module.groups > 1
        if grouped and not _depthwise(module):
            reason = f"{layer} is a grouped convolution"
        side = "out" if isinstance(module, nn.modules.batchnorm._BatchNorm) or grouped else _side(item)
        index = touched.setdefault((layer, side), [[] for _ in range(channels)])
        if any(channel is None for channel in item.root_idxs):  # type: ignore[attr-defined]
            reason = f"{layer} holds channels that cannot be traced back to it"
            continue
        for position, channel in zip(item.idxs, item.root_idxs, strict=True):  # type: ignore[attr-defined]
            if position not in index[channel]:
                index[channel].append(position)
    members = []
    for (layer, side), index in touched.items():
        if side == "out" and maps.get(layer, 0) > 1:
            if any(len(positions) != 1 for positions in index):
                reason = f"{layer} holds a channel at several places"
                continue
            members.append(Member(layer, tuple(positions[0] for positions in index)))
    if not members:
        return None, ""
    if any(len({len(positions) for positions in index}) != 1 for index in touched.values()):
        reason = reason or "its channels are spread unevenly"
    group = Group(
        name=name,
        channels=channels,
        members=tuple(members),
        touched=tuple(
            Touched(layer, side, tuple(tuple(positions) for positions in index))
            for (layer, side), index in touched.items()
        ),
    )
    return group, reason


def _side(item: object) -> str:
    handler = item.dep.handler.__name__  # type: ignore[attr-defined]
    return "in" if handler.endswith("in_channels") else "out"


def _depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


@contextmanager
def _map_sizes(net: nn.Module) -> Iterator[dict[str, int]]:
    """Pixels of the largest feature map that each convolution puts out, while inside."""
    sizes: dict[str, int] = defaultdict(int)
    handles = []
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):

            def note(_: nn.Module, __: object, out: Tensor, name: str = name) -> None:
                sizes[name] = max(sizes[name], out.shape[-2] * out.shape[-1])

            handles.append(module.register_forward_hook(note))
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def _following_norms(dependencies: object, names: dict[nn.Module, str]) -> dict[str, str]:
    """Convolution -> the batch norm that takes its output and nothing else does."""
    norms = {}
    nodes = dependencies.module2node  # type: ignore[attr-defined]
    for module, node in nodes.items():
        if not isinstance(module, nn.Conv2d) or module not in names or len(node.outputs) != 1:
            continue
        after = node.outputs[0]
        if "BatchNorm" in str(getattr(after.module, "_grad_fn", "")) and len(after.outputs) == 1:
            after = after.outputs[0]  # timm's norm-and-activation modules appear behind their inner norm
        if isinstance(after.module, nn.modules.batchnorm._BatchNorm) and after.module.affine:
            norms[names[module]] = names[after.module]
    return norms
