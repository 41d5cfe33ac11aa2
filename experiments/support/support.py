"""Which nets can be pruned at which granularity, and whether what comes out is exact.

Every net of the list, as timm builds it, with random weights; every option of `conf/granularity` with its defaults,
random scores, `scope=local`, `budget=macs` at half of the multiply-adds. Where a plan cannot land there, the share that
its refusal offers is taken.

Checked on each plan: removal == masking on random images (masks of weights: the masked net == the net with those
weights at zero), predicted == measured multiply-adds and parameters, a backward pass and an optimiser step afterwards.

    python experiments/support/support.py            # all nets; writes support.csv and README.md beside this file
    python experiments/support/support.py resnet18   # prints that net's rows only
"""

from __future__ import annotations

import csv
import platform
import re
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch_pruning
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from rs_prune.budget.macs import MACs
from rs_prune.build import build
from rs_prune.contracts import MaskWeights, Plan, Sight
from rs_prune.criterion.random import Random
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.pruning.cost import CostModel, filters, measure, sparse
from rs_prune.pruning.graph import Graph, trace
from rs_prune.pruning.masking import bake, hold
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.surgery import mask_error, remove
from rs_prune.scope.local import Local

HERE = Path(__file__).parent
CONF = HERE.parents[1] / "conf" / "granularity"
NETS = (
    "resnet18", "resnet34", "resnet50", "vgg11_bn", "vgg16_bn", "mobilenetv2_100", "mobilenetv3_small_100",
    "efficientnet_b0", "densenet121", "legacy_seresnet18", "seresnet18", "regnety_004", "resnext50_32x4d",
    "convnext_tiny",
)  # fmt: skip
SIZE = 64
KEEP = 0.5
COLUMNS = (
    "net", "granularity", "outcome", "keep", "groups", "filters", "hidden_groups", "hidden_units", "mask_error",
    "trace_s", "seconds", "reason",
)  # fmt: skip
OFFER = re.compile(r"(?:least that can stay is|nearest is budget\.keep=)\s*([0-9.]*[0-9])")


def make(name: str) -> nn.Module:
    """A net whose every channel matters: norms and layer scales do not start at one, zero or nearly zero."""
    torch.manual_seed(0)
    net: nn.Module = timm.create_model(name, num_classes=10)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        if isinstance(gamma := getattr(module, "gamma", None), nn.Parameter):
            nn.init.uniform_(gamma, 0.5, 1.5)
    return net.eval()


def plan_of(granularity: Any, net: nn.Module, graph: Graph, cost: CostModel, images: Tensor) -> tuple[Plan, float]:
    """The plan nearest to `KEEP` that there is, and the share that it keeps."""

    @torch.no_grad()
    def loss(candidate: nn.Module) -> float:
        return float(F.cross_entropy(candidate.eval()(images), torch.arange(len(images))))

    keep, tries = KEEP, 4
    while True:
        budget = MACs(keep=keep)
        try:
            plan: Plan = granularity(
                Sight(
                    net=net,
                    graph=graph,
                    cost=cost,
                    evidence=evidence(net, graph, seed=0, images=0),
                    criterion=Random(),
                    scope=Local(),
                    budget=budget,
                    dense=budget(cost.dense()),
                    keep=keep,
                    loss=loss,
                )
            )
            return plan, keep
        except DoesNotApply:
            raise
        except RsPruneError as refusal:
            offer, tries = OFFER.search(str(refusal)), tries - 1
            if offer is None or not tries:
                raise
            keep = float(offer[1])


def check(net: nn.Module, plan: Plan, graph: Graph, images: Tensor) -> float:
    """The largest difference of a logit; raises where anything is not exact."""
    example = images[:1]
    if any(isinstance(edit, MaskWeights) for edit in plan.edits):
        small = hold(net, plan, graph)
        with torch.no_grad():
            error = float((small(images) - bake(small)(images)).abs().max())
        reached = sparse(bake(small), example)
    else:
        error = mask_error(net, plan, graph.all, images)
        small = remove(net, plan, graph.all)
        reached = measure(small, example)
    if reached != (plan.predicted.macs, plan.predicted.params):
        raise AssertionError(f"predicted {plan.predicted}, measured {reached}")
    F.cross_entropy(small.train()(images), torch.arange(len(images))).backward()
    torch.optim.SGD(small.parameters(), lr=0.01).step()
    return error


def rows_of(name: str, granularities: Sequence[Path]) -> list[dict[str, Any]]:
    images = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    net = make(name)
    started = time.perf_counter()
    graph = trace(net, images[:1])
    traced = time.perf_counter() - started
    cost = CostModel(net, graph.groups, images[:1], graph.hidden)
    rows = []
    for path in granularities:
        row: dict[str, Any] = {
            "net": name,
            "granularity": path.stem,
            "groups": len(graph.groups),
            "filters": sum(map(filters, graph.groups)),
            "hidden_groups": len(graph.hidden),
            "hidden_units": sum(map(filters, graph.hidden)),
            "trace_s": f"{traced:.1f}",
            "reason": "; ".join(f"{layer} stays whole: {why}" for layer, why in graph.refused.items()),
        }
        started = time.perf_counter()
        try:
            plan, keep = plan_of(build(OmegaConf.load(path), "granularity"), net, graph, cost, images)
            row |= {"keep": f"{keep:.4g}", "mask_error": f"{check(net, plan, graph, images):.1e}", "outcome": "exact"}
        except DoesNotApply as refusal:
            row |= {"outcome": "does not apply", "reason": str(refusal)}
        except RsPruneError as refusal:
            row |= {"outcome": "refused", "reason": str(refusal)}
        rows.append({**row, "seconds": f"{time.perf_counter() - started:.1f}"})
        print(*(f"{column}={rows[-1].get(column, '')}" for column in COLUMNS), flush=True)
    return rows


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The README: a table net x granularity."""
    kinds = list(dict.fromkeys(row["granularity"] for row in rows))
    lines = [
        "| net | groups | filters | hidden units | " + " | ".join(kinds) + " |",
        "|---" * (4 + len(kinds)) + "|",
    ]
    notes: list[str] = []
    for net in dict.fromkeys(row["net"] for row in rows):
        mine = {row["granularity"]: row for row in rows if row["net"] == net}
        cells = []
        for kind in kinds:
            row = mine[kind]
            if row["outcome"] == "exact":
                cells.append(f"exact at {row['keep']} ({row['mask_error']})")
                continue
            if row["reason"] not in notes:
                notes.append(row["reason"])
            cells.append(f"{row['outcome']} [{notes.index(row['reason']) + 1}]")
        first = mine[kinds[0]]
        counts = f"{first['groups']} | {first['filters']} | {first['hidden_units']}"
        lines.append(f"| {net} | {counts} | " + " | ".join(cells) + " |")
    seconds = sum(float(row["seconds"]) for row in rows)
    return "\n".join(
        [
            "# What can be pruned",
            "",
            "Written by `python experiments/support/support.py`. Each row of [support.csv](support.csv) is one plan,",
            "with its check and its time.",
            "",
            f"Nets as timm builds them, random weights, ten classes, {SIZE} px; every granularity with its defaults,",
            "random scores, `scope=local`, `budget=macs`. `exact at k (e)`: with the share k of the multiply-adds",
            "kept, removal equals masking up to e in the logits (32-bit floats; norms over the channels take their",
            "statistics over those that stay), multiply-adds and parameters are those predicted, and the pruned net",
            "takes a backward pass and a step. For masks of single weights e is the difference to the net with those",
            f"weights at zero. k is {KEEP:g}, or what the refusal of {KEEP:g} offers.",
            "",
            *lines,
            "",
            *(f"[{place}] {note}  " for place, note in enumerate(notes, 1)),
            "",
            f"torch {torch.__version__}, timm {timm.__version__}, torch-pruning {torch_pruning.__version__}, Python "
            f"{platform.python_version()}, {platform.machine()}, one thread; {seconds / 60:.0f} minutes for all plans.",
        ]
    )


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    granularities = sorted(CONF.glob("*.yaml"))
    rows = [row for name in sys.argv[1:] or NETS for row in rows_of(name, granularities)]
    if sys.argv[1:]:
        return
    with (HERE / "support.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (HERE / "README.md").write_text(page(rows) + "\n")


if __name__ == "__main__":
    main()
