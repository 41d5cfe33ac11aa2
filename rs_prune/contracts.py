"""The values that cross a stage, and the protocols of the choices.

A choice (a criterion, a scope, a schedule, …) is any object that has the call signature of its
protocol. Choices import from here and from the machinery, never from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from rs_prune.pruning.cost import CostModel
    from rs_prune.pruning.graph import Graph

# ------------------------------------------------------------------------------------ scenes


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """An indexed set of labelled images, as a dataset finds them on disk. Nothing is decoded yet.

    Attributes:
        name: The data set's name, part of every digest (not its place on disk).
        root: The data set's own folder; `files` are relative to it.
        files: Relative paths, sorted, with forward slashes.
        labels: Class index of each file.
        classes: Class names, in the order of the indices.
        bands: Band names, in the order in which the reader delivers them.
        size: (height, width) that images are brought to, in pixels.
        scale: Stored values are multiplied by this to give the floats that mean and std speak of.
        mean: Mean per band after scaling; None: computed once on the training part.
        std: Standard deviation per band after scaling; None like `mean`.
        on_error: `raise` or `skip`: what to do with a file that cannot be read.
        stored: Names of the bands that each file holds, in its order; empty: they are `bands`.
        reads: Positions in the file of the bands that are read, in this order; empty: all.
        channels: What each of `bands` is, as positions among those read: (a,) that band, (a, b) their normalised
            difference (a - b) / (a + b). Empty: what is read, as it is.
        parts: `train`, `val` or `test` for each file, where the set brings lists along.
    """

    name: str
    root: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    size: tuple[int, int]
    scale: float
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    on_error: str = "raise"
    stored: tuple[str, ...] = ()
    reads: tuple[int, ...] = ()
    channels: tuple[tuple[int, ...], ...] = ()
    parts: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Split:
    """Indices into `Scenes.files`; the parts are disjoint, and identical images share a part."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    duplicates: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a data set can be had: what `rs-prune fetch` needs.

    Attributes:
        url: The archive's address.
        checksum: `md5:<hex>` or `sha256:<hex>` of the archive.
        folder: The folder inside the archive that becomes the data set's root; "" for the top.
        images: How many images the whole set holds.
    """

    url: str
    checksum: str
    folder: str
    images: int


class Dataset(Protocol):
    """Finds the scenes of one data set. Its constructor stores; the call does the work."""

    def __call__(self) -> Scenes: ...


# ----------------------------------------------------------------------------------- pruning


@dataclass(frozen=True)
class Member:
    """One scored layer of a group.

    Channel c of the group is the layer's output channel `index[c]`; where the group's channels are bundles of g
    (grouped convolutions), its output channels `index[c * g : (c + 1) * g]`.
    """

    layer: str
    index: tuple[int, ...]


@dataclass(frozen=True)
class Touched:
    """A dimension of a layer that a group's channels occupy.

    Channel c of the group occupies the positions `index[c]` (several where a feature map was
    flattened) of dimension `side` ("out" or "in") of `layer`.
    """

    layer: str
    side: str
    index: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Group:
    """Channels that must go together, as the dependency graph gives them.

    Attributes:
        name: The layer that roots the group.
        channels: How many channels it holds.
        members: The prunable layers (convolutions and linears) that produce these channels.
        touched: Every dimension of every layer that shrinks when a channel goes.
    """

    name: str
    channels: int
    members: tuple[Member, ...]
    touched: tuple[Touched, ...]


@dataclass(frozen=True)
class LayerEvidence:
    """What is known of one prunable layer before anything is folded or cut.

    Attributes:
        weight: (out, in / groups, kh, kw) or (out, in).
        gamma: (out,) scale of the norm that directly follows, or None.
        gate: (out,) mean gate over the training samples, or None where no gate sits.
        measured: What the criterion's own `measure` found for this layer, or None.
    """

    weight: Tensor
    gamma: Tensor | None = None
    gate: Tensor | None = None
    measured: Tensor | None = None


@dataclass(frozen=True)
class Evidence:
    """What criteria may look at. Taken before any folding.

    Attributes:
        layers: Evidence of each prunable layer, by name.
        weights: Weight of each convolution and linear layer that a group touches, the classifier's too.
        seed: The run's seed, for criteria that draw.
        images: How many training images were observed; 0 when no gate was there to observe.
    """

    layers: Mapping[str, LayerEvidence]
    seed: int = 0
    images: int = 0
    weights: Mapping[str, Tensor] = field(default_factory=dict)


Scores = dict[str, Tensor]
"""Group name -> (channels,); higher = keep."""


@dataclass(frozen=True)
class RemoveChannels:
    """Remove `channels` (indices in the group's own numbering) from the group rooted at `group`."""

    group: str
    channels: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return {"edit": "RemoveChannels", **asdict(self)}


@dataclass(frozen=True)
class RemoveBlock:
    """Replace the residual block `block` by the identity that its shortcut is."""

    block: str

    def as_json(self) -> dict[str, Any]:
        return {"edit": "RemoveBlock", **asdict(self)}


@dataclass(frozen=True)
class MaskWeights:
    """Hold single weights of `layer` at zero.

    Attributes:
        layer: A convolution or linear layer.
        kept: Which weights stay: the bits of the mask in C order, packed, compressed (zlib), base64.
        shape: Of the weight.
    """

    layer: str
    kept: str
    shape: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return {"edit": "MaskWeights", **asdict(self)}


@dataclass(frozen=True)
class RemoveBands:
    """Take input bands out of `layer`, the convolution that reads them.

    Attributes:
        layer: The convolution.
        bands: Positions among the bands that the net reads before the cut.
    """

    layer: str
    bands: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return {"edit": "RemoveBands", **asdict(self)}


Edit = RemoveChannels | RemoveBlock | MaskWeights | RemoveBands
"""A typed, replayable change of a net."""


@dataclass(frozen=True)
class Cost:
    """What a net takes: multiply-adds of one image, parameters, channels over all groups, and bands that it reads."""

    macs: int
    params: int
    channels: int
    bands: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Plan:
    """An ordered list of edits of one net, with the cost that the net will have after them."""

    edits: tuple[Edit, ...]
    predicted: Cost
    target: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "edits": [edit.as_json() for edit in self.edits],
            "predicted": asdict(self.predicted),
            "target": self.target,
        }


@dataclass(frozen=True)
class Place:
    """Where a gate may sit.

    Attributes:
        layer: The norm or convolution whose output is gated.
        units: Which channel (or bundle) of the group each channel of that output belongs to.
        group: The coupled group.
        conv: The convolution whose filters make these channels.
    """

    layer: str
    units: tuple[int, ...]
    group: str
    conv: str

    @property
    def channels(self) -> int:
        """How many channels the output has."""
        return len(self.units)


class Attention(Protocol):
    """Builds the branches that gate the channels of one coupled group; None leaves a place without a gate.

    It is called once per group, with the group's places in the order of their definition. An attention that has a
    method `callbacks(net, cost, epochs)` is asked for Lightning callbacks when the dense net is trained.
    """

    def __call__(self, places: Sequence[Place], net: nn.Module) -> Sequence[Branch | None]: ...


class Branch(nn.Module):
    """A channel-attention branch. Subclasses compute gates and know how to lose channels.

    Attributes:
        varies: Whether gates depend on the image. Where they do not, folding them is exact at any time.
    """

    varies = True

    def gates(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1) in the range the branch defines."""
        raise NotImplementedError

    def keep(self, index: Tensor) -> None:
        """Shrink in place to the channels in `index`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.gates(x)


class Criterion(Protocol):
    """Scores every channel of every group; higher = keep.

    A criterion that ranks single weights too has a method `weights(evidence) -> {layer: (weight's shape)}`. One
    that needs data has an attribute `images` (how many training images) and a method
    `measure(net, sites, batches) -> {layer: Tensor}`, whose result it finds as `LayerEvidence.measured`; `sites`
    maps each prunable layer to the module whose output its gate sits on (or would). `measure` leaves the net as it
    was, and its result does not depend on how the images are cut into batches.
    """

    def __call__(self, evidence: Evidence, groups: Sequence[Group]) -> Scores: ...


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a granularity plans from.

    Attributes:
        net: The bare net as it is, masked weights at zero.
        graph: Its graph.
        cost: Its cost model.
        evidence: What criteria look at.
        criterion: Scores channels, or weights.
        scope: Which are ranked against which.
        budget: Which cost is limited.
        dense: The bare dense net's cost in the budget's unit.
        keep: The share of it that stays.
        loss: Mean training loss of a bare net on training images.
    """

    net: nn.Module
    graph: Graph
    cost: CostModel
    evidence: Evidence
    criterion: Criterion
    scope: Scope
    budget: Budget
    dense: int
    keep: float
    loss: Callable[[nn.Module], float]


class Granularity(Protocol):
    """What is removed: makes the plan that leaves `keep` of `dense`.

    One that ranks single weights has `ranks_weights = True`: criteria then measure every convolution and linear layer.
    One that ranks input bands has `ranks_bands = True`: the evidence then speaks of them alone, as those of a layer
    `input`.
    """

    def __call__(self, sight: Sight) -> Plan: ...


class Scope(Protocol):
    """Turns scores into one order of removal: smaller priority goes first.

    `saved` gives the MACs that one channel of a group saves in the net as it is, `groups` what those channels are.
    Within a group a channel that scores lower never has the greater priority. A scope that reads files names them in
    an attribute `reads`, so that a run's digest depends on what is in them.
    One that ranks single weights too says in an attribute `weights` which compete: those of a `layer`, or of the `net`.
    """

    def __call__(self, scores: Scores, saved: Mapping[str, float], groups: Sequence[Group]) -> Scores: ...


class Budget(Protocol):
    """Which cost is limited, and the share of the bare dense net's that stays.

    One that counts bands has a method `of(bands)`, which gives the budget of a net that reads these; it alone is used.
    """

    keep: float

    def __call__(self, cost: Cost) -> int: ...


class Schedule(Protocol):
    """A short program in the verbs below: takes the trained net, returns the pruned, fine-tuned one.

    A schedule with `scratch = True` is given the untrained net and all epochs, those of the dense training too.
    """

    def __call__(self, net: nn.Module, do: Verbs) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Verbs:
    """What a schedule may do, handed to it as callables. Each returns a new net; only `fit` trains in place.

    Attributes:
        plan: (net, keep) -> plan; observes and scores the net as it is. `keep` is a share of the
            bare dense net's cost.
        remove: (net, plan) -> a smaller copy; of weights: a copy that holds them at zero.
        mask: (net, plan) -> a copy of the same shape that holds what the plan removes at zero while it trains.
        masked: net -> the plan that its masks stand for.
        detach: net -> a copy whose mean gates are folded in and whose branches are gone.
        bare: net -> a copy without its branches, nothing folded in.
        fit: (net, epochs, callbacks, lr_factor) -> the net after that many epochs of fine-tuning.
            `lr_factor` replaces that of the configuration.
        settle: (net, until) -> callbacks of a fit that hold the gates at their means from that share of its steps on,
            so that detaching them after it changes nothing; none for a net whose gates do not depend on the image.
        early: () -> the dense net as it was after the first tenth of its training.
        keep: The budget's share.
        epochs: The schedule's epochs, all rounds together.
    """

    plan: Callable[[nn.Module, float], Plan]
    remove: Callable[[nn.Module, Plan], nn.Module]
    mask: Callable[[nn.Module, Plan], nn.Module]
    masked: Callable[[nn.Module], Plan]
    detach: Callable[[nn.Module], nn.Module]
    bare: Callable[[nn.Module], nn.Module]
    fit: Fit
    settle: Callable[[nn.Module, float], list[Callback]]
    early: Callable[[], nn.Module]
    keep: float
    epochs: int


class Fit(Protocol):
    """Trains a net; see `Verbs.fit`."""

    def __call__(
        self, net: nn.Module, epochs: int, callbacks: Sequence[Callback] = (), lr_factor: float | None = None
    ) -> nn.Module: ...


class Loss(Protocol):
    """(N, classes) logits and (N,) labels -> scalar.

    A loss with `teacher = True` is called with the dense net's logits as a third argument.
    """

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor: ...


# ----------------------------------------------------------------------------------- results


@dataclass(kw_only=True)
class Record:
    """One run, as its JSON file holds it. Accuracies are fractions.

    Attributes:
        digest: Identity of the cell: everything that decides its result.
        status: `finished` or `skipped`.
        reason: Why it was skipped.
        choices: The words of the run: dataset, net, attention, criterion, granularity, schedule, scope,
            budget, keep, seed, epochs, finetune_epochs, selection.
        config: The resolved configuration.
        accuracy: Stage (`dense`, or `closed` where gates were closed while the dense net trained; `folded`, `raw`,
            `recalibrated`, `final`) -> {"val": …, "test": …}.
        per_class: Stage (`dense`, `final`) -> class -> test accuracy.
        cost: `dense`, `pruned`, `predicted` -> {"params", "macs", "channels"}; the first two have "size_mb", and what
            remains where zeros cost nothing: "nonzero" (parameters), "sparse_macs", "compressed_mb". The predicted
            cost of a plan of single weights is that.
        latency: `dense`, `pruned` -> {"median_ms", "iqr_ms", "threads", "batch"}. Volatile.
        checks: `mask_error` (max abs difference of logits; None where only weights were masked), `mean_gate_error`
            (relative).
        plans: The plans in the order of their removal.
        bands: Where bands were removed: `dense` and `kept`, their names.
        split: Sizes of the parts, digest of the lists, duplicates found.
        training: Curves of the fits: lists of {"epoch", "loss", "val_accuracy", …}; training MACs (`dense`: 0 where the
            schedule started from scratch).
        times: Seconds of every stage. Volatile.
        versions: Of the libraries. Volatile.
        git: Commit and whether the tree was dirty. Volatile.
        hardware: Machine, processor, threads. Volatile.
        created: ISO date. Volatile.
    """

    digest: str
    status: str
    choices: dict[str, Any]
    config: dict[str, Any]
    reason: str = ""
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    cost: dict[str, dict[str, float]] = field(default_factory=dict)
    latency: dict[str, dict[str, float]] = field(default_factory=dict)
    checks: dict[str, float | None] = field(default_factory=dict)
    plans: list[dict[str, Any]] = field(default_factory=list)
    bands: dict[str, list[str]] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    created: str = ""

    VOLATILE = ("latency", "times", "versions", "git", "hardware", "created")


Batch = dict[str, Tensor]
"""{"image": (N, C, H, W) float32, "label": (N,) int64, "index": (N,) int64}"""

Device = torch.device | str
