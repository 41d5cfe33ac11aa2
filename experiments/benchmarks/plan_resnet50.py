"""Our whole plan for ResNet-50 beside torch-pruning's own one-shot pruner, in one run.

Ours: graph, scores, search and removal, at `budget=macs criterion=l1 scope=local`; without the copy of the net and
without the mask check. Theirs: `MetaPruner` with group L1 importance, built and stepped once at a channel ratio that
leaves about the same MACs. The two alternate; the ratio of the medians is what counts.

    python experiments/benchmarks/plan_resnet50.py
"""

from __future__ import annotations

import copy
import json
import statistics
import time
import warnings
from pathlib import Path

import timm
import torch
import torch_pruning as tp

from rs_prune.budget.macs import MACs
from rs_prune.contracts import Sight
from rs_prune.criterion.l1 import L1
from rs_prune.granularity.channels import Channels
from rs_prune.pruning.cost import CostModel, measure
from rs_prune.pruning.graph import trace
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.surgery import cut
from rs_prune.scope.local import Local

KEEP = 0.5
REPEATS = 5
EXAMPLE = torch.zeros(1, 3, 224, 224)


def ours(net: torch.nn.Module) -> None:
    graph = trace(net, EXAMPLE)
    cost = CostModel(net, graph.groups, EXAMPLE, graph.hidden)
    budget = MACs(keep=KEEP)
    sight = Sight(
        net=net,
        graph=graph,
        cost=cost,
        evidence=evidence(net, graph, seed=0, images=0),
        criterion=L1(),
        scope=Local(),
        budget=budget,
        dense=budget(cost.dense()),
        keep=KEEP,
        loss=lambda _: 0.0,
    )
    cut(net, Channels()(sight), graph.all)


def theirs(net: torch.nn.Module) -> None:
    pruner = tp.pruner.MetaPruner(
        net,
        EXAMPLE,
        importance=tp.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=0.3,
        ignored_layers=[net.fc],
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
    )
    pruner.step()


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = timm.create_model("resnet50", num_classes=10)
    dense, _ = measure(net, EXAMPLE)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    left = {}
    for repeat in range(REPEATS + 1):
        for name, prune in (("ours", ours), ("theirs", theirs)):
            fresh = copy.deepcopy(net)
            started = time.perf_counter()
            prune(fresh)
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
            left[name] = measure(fresh, EXAMPLE)[0] / dense
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "net": "resnet50, 224 px",
        "repeats": REPEATS,
        "median_s": medians,
        "ratio": medians["ours"] / medians["theirs"],
        "macs_left": left,
        "torch": torch.__version__,
        "torch_pruning": tp.__version__,
    }
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
