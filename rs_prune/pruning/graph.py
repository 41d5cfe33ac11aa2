"""Coupled channels of a net, as torch-pruning's dependency graph gives them.

DepGraph: Fang, Ma, Song, Mi, Wang 2023 (arXiv 2301.12900). The graph is traced once; what comes out are plain
values (`Group`), so the library does not reach further than this file.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from timm.models.vgg import ConvMlp
from torch import Tensor, nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library warns about optional packages on import
    import torch_pruning as tp

from rs_prune.contracts import Group, Member, Place, Touched
from rs_prune.errors import RsPruneError
from rs_prune.pruning.bundles import Part, bundle
from rs_prune.pruning.layers import BATCH_NORMS, bare_parameters, is_cuttable, is_vector, width

MAKERS = (nn.Conv2d, nn.Linear)
CLASSES = "its outputs are the classes"


@dataclass(frozen=True)
class Graph:
    """What the tracing of one bare net gives.

    Attributes:
        groups: The groups whose channels are filters: those that convolutions with a feature map larger than one
            pixel produce, alone or with others.
        norms: Convolution -> the norm that directly follows it.
        refused: Name of a group that is left whole -> why.
        hidden: The groups whose channels are hidden units: those that linear layers, or convolutions whose map is a
            single pixel, produce. Squeeze layers and dense heads, but not the classifier. VGG's head is one for larger
            images, too, whose map timm's convolutions there do not pool to a pixel.
        linear: The members that are linear layers.
    """

    groups: tuple[Group, ...]
    norms: dict[str, str]
    refused: dict[str, str]
    hidden: tuple[Group, ...] = ()
    linear: frozenset[str] = field(default=frozenset())

    @property
    def all(self) -> tuple[Group, ...]:
        """Everything that plans may speak of: filters and hidden units."""
        return (*self.groups, *self.hidden)

    def places(self, shortcuts: bool = False) -> tuple[tuple[Place, ...], ...]:
        """Where gates go, group by group: the norm behind every filter's convolution, else the convolution.

        Args:
            shortcuts: Whether shortcut projections are gated too.
        """
        return tuple(
            tuple(
                Place(self.norms.get(member.layer, member.layer), _units(group, member), group.name, member.layer)
                for member in group.members
                if member.layer not in self.linear and (shortcuts or not is_shortcut(member.layer))
            )
            for group in self.groups
        )

    def sites(self) -> dict[str, str]:
        """Prunable layer -> the module whose output its gate sits on, or would."""
        layers = [member.layer for group in self.all for member in group.members]
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
    names: dict[object, str] = {module: name for name, module in net.named_modules()}
    names |= {parameter: name for name, parameter in bare_parameters(net)}
    dependencies, found, maps = _dependencies(net, example)
    modules = dict(net.named_modules())
    order = {name: place for place, name in enumerate(modules)}
    parts = [_part(items, names) for items in found]
    grouped = {name: module for name, module in modules.items() if _is_grouped(module)}
    heads = tuple(f"{name}." for name, module in modules.items() if isinstance(module, ConvMlp))
    groups: list[Group] = []
    hidden: list[Group] = []
    refused: dict[str, str] = {}
    for part in bundle(parts, grouped):
        makers = [layer for layer, side in part.touched if side == "out" and isinstance(modules.get(layer), MAKERS)]
        filters = [layer for layer in makers if maps[layer] > 1 and not layer.startswith(heads)]
        is_hidden = not any(isinstance(modules[layer], nn.Conv2d) for layer in filters)
        members = sorted(makers if is_hidden else filters, key=order.__getitem__)
        reason = part.reason or _uneven(part, members)
        if not members or part.reason == CLASSES or not any(side == "in" for _, side in part.touched):
            continue  # nothing reads what it puts out: the classes
        if reason:
            refused[part.name] = reason
            continue
        (hidden if is_hidden else groups).append(_group(part, members))
    if not groups:
        why = next(iter(refused.items()), None)
        raise RsPruneError(
            f"model: {type(net).__name__} has no channels that can be pruned" + (f"; {why[0]}: {why[1]}" if why else "")
        )
    for kind in (groups, hidden):
        kind.sort(key=lambda group: order[group.name])
    linear = frozenset(name for name, module in modules.items() if isinstance(module, nn.Linear))
    return Graph(tuple(groups), _following_norms(dependencies, names), refused, tuple(hidden), linear)


def _dependencies(net: nn.Module, example: Tensor) -> tuple[object, list[Sequence[object]], dict[str, int]]:
    """The library's graph, its groups, and the pixels of each layer's largest feature map."""
    training = net.training
    flags = [parameter.requires_grad for parameter in net.parameters()]
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
    return dependencies, found, maps


def _part(items: Sequence[object], names: dict[object, str]) -> Part:
    """One group of the library as our value."""
    root = items[0].dep.target.module  # type: ignore[attr-defined]
    part = Part(names[root], int(root.weight.shape[0]))
    for item in items:
        module = item.dep.target.module  # type: ignore[attr-defined]
        if isinstance(module, tp.ops._OutputOp):
            part.reason = CLASSES
            return part
        if module not in names:
            continue  # an addition, a concat, a view: no weights of its own
        layer = names[module]
        if isinstance(module, nn.Parameter):
            if not is_vector(module):
                part.reason = f"the bare parameter {layer} holds more than one value per channel"
        elif not is_cuttable(module):
            part.reason = f"{layer} ({type(module).__name__}) mixes its channels"
            continue
        elif isinstance(module, nn.Conv2d) and 1 < module.groups == module.out_channels < module.in_channels:
            part.reason = f"{layer} is a grouped convolution with fewer outputs than inputs"
        side = _side(item) if isinstance(module, MAKERS) and not _is_depthwise(module) else "out"
        index = part.touched.setdefault((layer, side), [[] for _ in range(part.channels)])
        if any(channel is None for channel in item.root_idxs):  # type: ignore[attr-defined]
            part.reason = f"{layer} holds channels that cannot be traced back to it"
            continue
        for position, channel in zip(item.idxs, item.root_idxs, strict=True):  # type: ignore[attr-defined]
            if position not in index[channel]:
                index[channel].append(position)
    return part


def _units(group: Group, member: Member) -> tuple[int, ...]:
    """Which channel of the group each output channel of a member belongs to."""
    bundle = len(member.index) // group.channels
    units = {position: place // bundle for place, position in enumerate(member.index)}
    return tuple(units[position] for position in sorted(units))


def _uneven(part: Part, members: Sequence[str]) -> str:
    """Why a part's channels are no interchangeable units; "" if they are."""
    for layer in members:
        if not part.bundled and any(len(positions) != 1 for positions in part.touched[layer, "out"]):
            return f"{layer} holds a channel at several places"
    even = all(len({len(positions) for positions in index}) == 1 and index[0] for index in part.touched.values())
    return "" if even else "its channels are spread unevenly"


def _group(part: Part, members: Sequence[str]) -> Group:
    return Group(
        name=part.name,
        channels=part.channels,
        members=tuple(
            Member(layer, tuple(place for positions in part.touched[layer, "out"] for place in positions))
            for layer in members
        ),
        touched=tuple(
            Touched(layer, side, tuple(tuple(positions) for positions in index))
            for (layer, side), index in sorted(part.touched.items())
        ),
    )


def _side(item: object) -> str:
    handler = item.dep.handler.__name__  # type: ignore[attr-defined]
    return "in" if handler.endswith("in_channels") else "out"


def _is_depthwise(module: nn.Module) -> bool:
    """Whether the library takes a convolution's inputs and outputs for the same channels."""
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.out_channels


def _is_grouped(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups > 1 and not _is_depthwise(module)


@contextmanager
def _map_sizes(net: nn.Module) -> Iterator[dict[str, int]]:
    """Pixels of the largest feature map that each convolution or linear layer puts out, while inside."""
    sizes: dict[str, int] = defaultdict(int)
    handles = []
    for name, module in net.named_modules():
        if isinstance(module, MAKERS):

            def note(module: nn.Module, _: object, out: Tensor, name: str = name) -> None:
                sizes[name] = max(sizes[name], out[0].numel() // width(module))

            handles.append(module.register_forward_hook(note))
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def _following_norms(dependencies: object, names: dict[object, str]) -> dict[str, str]:
    """Convolution -> the batch norm that takes its output and nothing else does."""
    norms = {}
    nodes = dependencies.module2node  # type: ignore[attr-defined]
    for module, node in nodes.items():
        if not isinstance(module, nn.Conv2d) or module not in names or len(node.outputs) != 1:
            continue
        after = node.outputs[0]
        if "BatchNorm" in str(getattr(after.module, "_grad_fn", "")) and len(after.outputs) == 1:
            after = after.outputs[0]  # timm's norm-and-activation modules appear behind their inner norm
        if isinstance(after.module, BATCH_NORMS) and after.module.affine:
            norms[names[module]] = names[after.module]
    return norms
