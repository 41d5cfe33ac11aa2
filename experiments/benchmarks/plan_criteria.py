"""What every channel criterion makes a whole plan for ResNet-50 cost, beside plain `l1`, in one run.

A plan is graph, measurement, scores, search and removal at `budget=macs budget.keep=0.5 scope=local`, on a net with
squeeze-excite gates (observed beforehand), 224 px, one thread. Criteria that need no data are timed in turn with `l1`,
and the ratio of the medians is what counts. Those that need data measure 2 random images, once: the cost per image is
what counts, and grows with `criterion.images`.

    python experiments/benchmarks/plan_criteria.py
"""

from __future__ import annotations

import copy
import json
import statistics
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rs_prune.attention.correlation import Correlation
from rs_prune.attention.se import SE
from rs_prune.budget.macs import MACs
from rs_prune.contracts import Batch, Sight
from rs_prune.errors import DoesNotApply
from rs_prune.granularity.channels import Channels
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.gate import attach, bare, observe
from rs_prune.pruning.graph import trace
from rs_prune.pruning.scores import evidence
from rs_prune.pruning.surgery import cut
from rs_prune.scope.local import Local
from rs_prune.steps import measured

CONF = Path(__file__).parents[2] / "conf" / "criterion"
KEEP = 0.5
REPEATS = 5
IMAGES = 2
EXAMPLE = torch.zeros(1, 3, 224, 224)


def batches(_: int | None = None) -> Iterator[Batch]:
    draw = torch.Generator().manual_seed(0)
    for start in range(IMAGES):
        yield {
            "image": torch.randn(1, 3, 224, 224, generator=draw),
            "label": torch.randint(10, (1,), generator=draw),
            "index": torch.tensor([start]),
        }


def plan(net: torch.nn.Module, criterion: Any) -> None:
    plain = bare(net)
    graph = trace(plain, EXAMPLE)
    found = measured(criterion, net, graph.sites(), batches)
    cost = CostModel(plain, graph.groups, EXAMPLE, graph.hidden)
    budget = MACs(keep=KEEP)
    sight = Sight(
        net=plain,
        graph=graph,
        cost=cost,
        evidence=evidence(net, graph, seed=0, images=IMAGES, measured=found),
        criterion=criterion,
        scope=Local(),
        budget=budget,
        dense=budget(cost.dense()),
        keep=KEEP,
        loss=lambda _: 0.0,
    )
    cut(net, Channels()(sight), graph.all)


def timed(net: torch.nn.Module, criterion: Any) -> float:
    fresh = copy.deepcopy(net)
    started = time.perf_counter()
    plan(fresh, criterion)
    return time.perf_counter() - started


def gated(attention: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    net = timm.create_model("resnet50", num_classes=10)
    attach(net, trace(net, EXAMPLE).places(), attention)
    observe(net, [next(batches())])
    return net


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    nets = {"se": gated(SE()), "correlation": gated(Correlation())}
    criteria = {path.stem: instantiate(OmegaConf.load(path)) for path in sorted(CONF.glob("*.yaml"))}
    l1 = criteria.pop("l1")
    timed(nets["se"], l1)  # warms up
    result: dict[str, Any] = {"net": "resnet50 with SE gates, 224 px", "repeats": REPEATS, "torch": torch.__version__}
    result["ratio_to_l1"], result["measured_s_per_image"], result["refused"] = {}, {}, {}
    for name, criterion in criteria.items():
        net = nets["correlation" if name == "correlation_learned" else "se"]
        try:
            if hasattr(criterion, "images"):
                result["measured_s_per_image"][name] = (timed(net, criterion) - timed(net, l1)) / IMAGES
                continue
            pairs = [(timed(net, criterion), timed(net, l1)) for _ in range(REPEATS)]
            mine, plain = (statistics.median(times) for times in zip(*pairs, strict=True))
            result["ratio_to_l1"][name] = mine / plain
            result["l1_s"] = plain
        except DoesNotApply as reason:
            result["refused"][name] = str(reason)
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
