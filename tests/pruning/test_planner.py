"""Plans: what they cost, what they take, and what they refuse."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from rs_prune.budget.channels import Channels as ChannelsBudget
from rs_prune.budget.macs import MACs
from rs_prune.budget.params import Params
from rs_prune.build import build
from rs_prune.contracts import Cost, Evidence, Plan, RemoveChannels, Scores, Sight
from rs_prune.errors import RsPruneError
from rs_prune.granularity.channels import Channels
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.graph import Graph, trace
from rs_prune.scope.global_macs import GlobalMacs
from rs_prune.scope.local import Local

CONF = Path(__file__).parents[2] / "conf"
NET = "resnet_narrow"
SCOPES = ("local", "global", "global_macs")
BUDGETS = ("macs", "params", "channels")
KEEPS = (0.1, 0.25, 1 / 3, 0.5, 0.61, 0.75, 0.9, 0.97, 0.99)


def gone(plan: Plan, graph: Graph) -> dict[str, tuple[int, ...]]:
    found = {edit.group: edit.channels for edit in plan.edits}
    assert len(found) == len(plan.edits)
    return {group.name: found.get(group.name, ()) for group in graph.groups}


def small_chain(chain: Any, *widths: int) -> tuple[Graph, CostModel]:
    net, example = chain(*widths), torch.zeros(1, 3, 8, 8)
    graph = trace(net, example)
    return graph, CostModel(net, graph.groups, example)


def scores_of(**values: list[float]) -> dict[str, torch.Tensor]:
    """Group names of a chain: a -> body.0, b -> body.3, c -> body.6."""
    return {f"body.{3 * 'abc'.index(key)}": torch.tensor(row, dtype=torch.float64) for key, row in values.items()}


def first_that_fits(graph: Graph, cost: CostModel, priorities: dict[str, np.ndarray], target: float) -> np.ndarray:
    """Kept channels once everything up to some priority has gone: the fewest such that the MACs fit."""
    for level in sorted({float(p) for row in priorities.values() for p in row}):
        kept = np.array([int((priorities[group.name] > level).sum()) for group in graph.groups])
        kept = np.maximum(kept, 2)
        if cost.predict(kept).macs <= target:
            return kept
    raise AssertionError("never fits")


# ------------------------------------------------------------------------------ the budget is met


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_plans_land_in_the_window(scope: str, budget: str, traced: Any, plan: Any, random_scores: Any) -> None:
    net = traced(NET)
    dense = getattr(net.cost.dense(), budget)
    for seed, keep in enumerate(KEEPS):
        made = plan(net.graph, net.cost, keep, scope=scope, budget=budget, scores=random_scores(net.graph, seed))
        reached = getattr(made.predicted, budget)
        assert (keep - 0.01) * dense <= reached <= keep * dense
        assert made.target == keep * dense
        removed = gone(made, net.graph)
        kept = [group.channels - len(removed[group.name]) for group in net.graph.groups]
        assert net.cost.predict(np.array(kept)) == made.predicted
        assert min(kept) >= 2
        for channels in removed.values():
            assert list(channels) == sorted(set(channels))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "vgg16_bn"])
def test_many_keeps_on_other_nets(name: str, traced: Any, plan: Any) -> None:
    net = traced(name)
    dense = net.cost.dense().macs
    for scope in SCOPES:
        for keep in (0.3, 0.47, 0.7, 0.88):
            assert (keep - 0.01) * dense <= plan(net.graph, net.cost, keep, scope=scope).predicted.macs <= keep * dense


@pytest.mark.parametrize("scope", SCOPES)
def test_no_channel_more_would_fit(scope: str, traced: Any, plan: Any) -> None:
    """The window is filled up: putting any one channel back would break the budget."""
    net = traced(NET)
    for keep in (0.2, 0.5, 0.8):
        made = plan(net.graph, net.cost, keep, scope=scope)
        removed = gone(made, net.graph)
        kept = np.array([group.channels - len(removed[group.name]) for group in net.graph.groups])
        assert made.predicted.macs <= keep * net.cost.dense().macs
        for column, group in enumerate(net.graph.groups):
            if removed[group.name]:
                more = kept + np.eye(len(kept), dtype=int)[column]
                assert net.cost.predict(more).macs > keep * net.cost.dense().macs


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_keep_of_one_removes_nothing(scope: str, budget: str, traced: Any, plan: Any) -> None:
    net = traced(NET)
    made = plan(net.graph, net.cost, 1.0, scope=scope, budget=budget)
    assert made.edits == ()
    assert made.predicted == net.cost.dense()


def test_cost_model_by_hand(chain: Any) -> None:
    _, cost = small_chain(chain, 4, 6)

    def expected(a: int, b: int) -> Cost:
        macs = 64 * 9 * (3 * a + a * b) + b * 5
        return Cost(macs=macs, params=9 * (3 * a + a * b) + 2 * a + 2 * b + b * 5 + 5, channels=a + b)

    for a in range(1, 5):
        for b in range(1, 7):
            assert cost.predict(np.array([a, b])) == expected(a, b)
    assert cost.dense() == expected(4, 6)
    assert cost.saved() == {"body.0": 64 * 9 * 9, "body.3": 64 * 9 * 4 + 5}


# ----------------------------------------------------------------------------------- what goes


@pytest.mark.parametrize("scope", SCOPES)
def test_the_lowest_of_every_group_go(scope: str, traced: Any, plan: Any, random_scores: Any) -> None:
    net = traced(NET)
    for seed in range(12):
        scores = random_scores(net.graph, seed)
        made = plan(net.graph, net.cost, 0.3 + 0.05 * seed, scope=scope, scores=scores)
        for name, channels in gone(made, net.graph).items():
            lowest = torch.argsort(scores[name])[: len(channels)]
            assert set(channels) == set(lowest.tolist())


def test_local_takes_the_same_share_of_every_group(traced: Any, plan: Any, random_scores: Any) -> None:
    net = traced(NET)
    for keep in KEEPS:
        made = plan(net.graph, net.cost, keep, budget="channels", scores=random_scores(net.graph, 3))
        removed = {group: len(gone(made, net.graph)[group.name]) for group in net.graph.groups}
        # channels cost the same, so nothing is left to fill up: one share fits all, up to a channel
        most = max(count / group.channels for group, count in removed.items())
        assert most <= min((count + 1) / group.channels for group, count in removed.items())
        assert sum(removed.values()) == net.cost.dense().channels - math.floor(keep * net.cost.dense().channels)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
def test_local_on_macs_is_a_uniform_cut_filled_up(keep: float, traced: Any, plan: Any) -> None:
    net = traced(NET)
    target = keep * net.cost.dense().macs
    ranks = {group.name: np.arange(1, group.channels + 1) / group.channels for group in net.graph.groups}
    uniform = first_that_fits(net.graph, net.cost, ranks, target)
    removed = gone(plan(net.graph, net.cost, keep), net.graph)
    shares = [len(removed[group.name]) / group.channels for group in net.graph.groups]
    for column, group in enumerate(net.graph.groups):
        kept = group.channels - len(removed[group.name])
        assert kept >= uniform[column]
    assert max(shares) - min(shares) < 0.12


def test_local_is_blind_to_the_scale_of_a_group(chain: Any, plan: Any) -> None:
    graph, cost = small_chain(chain, 4, 4)
    scores = scores_of(a=[1, 4, 2, 3], b=[1e6, 4e6, 3e6, 2e6])
    made = plan(graph, cost, 0.5, budget="channels", scores=scores)
    assert gone(made, graph) == {"body.0": (0, 2), "body.3": (0, 3)}


def test_global_ranks_scores_over_their_groups_mean(chain: Any, plan: Any) -> None:
    graph, cost = small_chain(chain, 4, 6)
    # over the mean: a = 0.2, 0.6, 1.2, 2.0; b = 0.1, 0.3, 0.5, 0.7, 1.9, 2.5
    scores = scores_of(a=[5, 1, 10, 3], b=[70, 10, 250, 30, 190, 50])
    expected = {
        0.9: {"body.0": (), "body.3": (1,)},
        0.8: {"body.0": (1,), "body.3": (1,)},
        0.7: {"body.0": (1,), "body.3": (1, 3)},
        0.6: {"body.0": (1,), "body.3": (1, 3, 5)},
        0.5: {"body.0": (1, 3), "body.3": (1, 3, 5)},
        0.4: {"body.0": (1, 3), "body.3": (0, 1, 3, 5)},
    }
    scores["body.0"] = torch.tensor([6.0, 1.0, 10.0, 3.0])
    for keep, channels in expected.items():
        made = plan(graph, cost, keep, scope="global", budget="channels", scores=scores)
        assert gone(made, graph) == channels
        assert made.predicted.channels == round(10 * keep)


def test_global_macs_ranks_by_what_a_channel_saves(chain: Any, plan: Any) -> None:
    graph, cost = small_chain(chain, 4, 8)
    saved = cost.saved()
    assert saved == {"body.0": 64 * 9 * (3 + 8), "body.3": 64 * 9 * 4 + 5}
    # a channel of a saves 2.74 times as much: a's 0.8, 1.0, 1.1, 1.1 count as 0.29, 0.365, 0.40, 0.40
    scores = scores_of(a=[11, 8, 11, 10], b=[20, 35, 38, 50, 100, 150, 180, 227])
    order = [("b", 0), ("a", 1), ("b", 1), ("a", 3), ("b", 2)]  # b's 0.2, 0.35, 0.38, 0.5, …
    taken: dict[str, list[int]] = {"body.0": [], "body.3": []}
    for step, (key, channel) in enumerate(order, 1):
        taken["body.0" if key == "a" else "body.3"].append(channel)
        made = plan(graph, cost, (12.01 - step) / 12, scope="global_macs", budget="channels", scores=scores)
        assert gone(made, graph) == {name: tuple(sorted(channels)) for name, channels in taken.items()}
    plain = plan(graph, cost, 8.01 / 12, scope="global", budget="channels", scores=scores)
    assert gone(plain, graph)["body.0"] == ()  # without the MACs the order is another


def test_filling_up_goes_to_the_most_valuable_that_fit(chain: Any, plan: Any) -> None:
    """Two channels of c and one of a have to go; then one of c fits again, and the one of a does not."""
    graph, cost = small_chain(chain, 6, 4, 120)
    assert (cost.saved()["body.0"], cost.saved()["body.6"]) == (4032, 2309)
    scores = scores_of(a=[1.14, 1.14, 0.3, 1.14, 1.14, 1.14], b=[1.0] * 4, c=[1.0144] * 70 + [0.2, 0.1] + [1.0144] * 48)
    dense = cost.dense().macs
    made = plan(graph, cost, (dense - 5000) / dense, scope="global", scores=scores)
    assert gone(made, graph) == {"body.0": (2,), "body.3": (), "body.6": (71,)}
    assert made.predicted.macs == dense - 4032 - 2309


def test_ties_are_broken_the_same_way(traced: Any, plan: Any) -> None:
    net = traced(NET)
    flat = {group.name: torch.ones(group.channels, dtype=torch.float64) for group in net.graph.groups}
    for scope in SCOPES:
        made = plan(net.graph, net.cost, 0.5, scope=scope, scores=flat)
        again = plan(net.graph, net.cost, 0.5, scope=scope, scores=dict(reversed(flat.items())))
        assert made == again
        for channels in gone(made, net.graph).values():
            assert list(channels) == list(range(len(channels)))  # the first channels first


def test_scores_of_zero_are_no_trouble(traced: Any, plan: Any, random_scores: Any) -> None:
    """timm starts the last norm of a block with a scale of zero."""
    net = traced(NET)
    scores = random_scores(net.graph)
    first = net.graph.groups[0].name
    scores[first] = torch.zeros_like(scores[first])
    for scope in SCOPES:
        made = plan(net.graph, net.cost, 0.5, scope=scope, scores=scores)
        assert 0.49 <= made.predicted.macs / net.cost.dense().macs <= 0.5
        if scope != "local":
            assert len(gone(made, net.graph)[first]) == len(scores[first]) - 2


def test_float32_scores_and_float64_scores_make_one_plan(traced: Any, plan: Any, random_scores: Any) -> None:
    net = traced(NET)
    scores = {name: values.float() for name, values in random_scores(net.graph).items()}
    double = {name: values.double() for name, values in scores.items()}
    for scope in SCOPES:
        made = plan(net.graph, net.cost, 0.5, scope=scope, scores=scores)
        assert made.edits == plan(net.graph, net.cost, 0.5, scope=scope, scores=double).edits


def test_planning_leaves_net_and_scores_alone(make_net: Any, plan: Any, random_scores: Any) -> None:
    net, example = make_net(NET), torch.zeros(1, 3, 64, 64)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modules = [name for name, _ in net.named_modules()]
    graph = trace(net, example)
    cost = CostModel(net, graph.groups, example)
    scores = random_scores(graph)
    values = {name: row.clone() for name, row in scores.items()}
    dense = cost.dense()
    made = [plan(graph, cost, 0.4, scope=scope, scores=scores) for scope in SCOPES]
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [name for name, _ in net.named_modules()] == modules
    assert not net.training
    assert all(torch.equal(scores[name], values[name]) for name in values)
    assert cost.dense() == dense
    assert made == [plan(graph, cost, 0.4, scope=scope, scores=scores) for scope in SCOPES]


# -------------------------------------------------------------------------- floors and multiples


@pytest.mark.parametrize("floor", [1, 3, 10])
def test_every_group_keeps_its_minimum(floor: int, traced: Any, plan: Any, random_scores: Any) -> None:
    net = traced(NET)
    scores = random_scores(net.graph)
    first, second = net.graph.groups[0].name, net.graph.groups[1].name
    scores[first] *= 1e-6
    scores[second][:] = 0
    made = plan(net.graph, net.cost, 0.4, scope="global_macs", scores=scores, min_channels=floor)
    kept = {group.name: group.channels - len(gone(made, net.graph)[group.name]) for group in net.graph.groups}
    assert min(kept.values()) >= floor
    assert kept[second] == floor


def test_kept_channels_are_multiples(traced: Any, plan: Any, random_scores: Any) -> None:
    net = traced("resnet18")
    for scope in SCOPES:
        scores = random_scores(net.graph, 2)
        made = plan(net.graph, net.cost, 0.5, scope=scope, scores=scores, round_to=8)
        removed = gone(made, net.graph)
        kept = {group.name: group.channels - len(removed[group.name]) for group in net.graph.groups}
        assert all(count % 8 == 0 and count >= 8 for count in kept.values())
        assert len(set(kept.values())) > 3
        for name, channels in removed.items():
            assert set(channels) == set(torch.argsort(scores[name])[: len(channels)].tolist())


def test_groups_below_one_multiple_stay_whole(chain: Any, plan: Any) -> None:
    graph, cost = small_chain(chain, 4, 20, 16)
    made = plan(graph, cost, 28 / 40, budget="channels", round_to=8, scope="global")
    kept = [group.channels - len(gone(made, graph)[group.name]) for group in graph.groups]
    assert kept[0] == 4
    assert kept[1] in (8, 16, 20)
    assert kept[2] in (8, 16)
    assert sum(kept) == 28


def sight(graph: Graph, cost: CostModel, *, scores: Scores, **options: Any) -> Sight:
    """What a granularity plans from, with the scores given."""
    return Sight(
        net=nn.Identity(),
        graph=graph,
        cost=cost,
        evidence=Evidence(layers={}),
        criterion=lambda _, groups: {group.name: scores[group.name] for group in groups},
        loss=lambda _: 0.0,
        **options,
    )


def test_granularity_checks_its_numbers() -> None:
    for wrong in ({"min_channels": 0}, {"round_to": 0}, {"min_channels": -1}):
        with pytest.raises(RsPruneError, match="granularity"):
            Channels(**wrong)


def test_granularity_plans_against_the_dense_net(chain: Any) -> None:
    """In later rounds `keep` still speaks of the dense net, and so does the window."""
    graph, cost = small_chain(chain, 30, 20)
    scores = scores_of(a=[float(i) for i in range(30)], b=[float(i) for i in range(20)])
    made = Channels(min_channels=2)(
        sight(graph, cost, scores=scores, scope=Local(), budget=ChannelsBudget(keep=0.1), dense=100, keep=0.4)
    )
    assert made.target == 40
    assert made.predicted.channels == 40
    assert isinstance(made.edits[0], RemoveChannels)


# -------------------------------------------------------------------------------- what is refused


def stated(error: RsPruneError) -> float:
    """The keep that the message offers."""
    found = re.findall(r"(?:least that can stay is|nearest is budget\.keep=)\s*([0-9.]+[0-9])", str(error))
    assert len(found) == 1, str(error)
    return float(found[0])


@pytest.mark.parametrize("name", ["resnet_narrow", "mobilenetv3_small_100"])
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("floor", [2, 5, 9])
def test_an_unreachable_budget_names_one_that_works(name: str, budget: str, floor: int, traced: Any, plan: Any) -> None:
    net = traced(name)
    with pytest.raises(RsPruneError, match="cannot be reached") as refusal:
        plan(net.graph, net.cost, 1e-4, budget=budget, min_channels=floor)
    least = stated(refusal.value)
    made = plan(net.graph, net.cost, least, budget=budget, min_channels=floor)
    dense = getattr(net.cost.dense(), budget)
    bottom = net.cost.predict(np.array([min(group.channels, floor) for group in net.graph.groups]))
    assert getattr(bottom, budget) <= getattr(made.predicted, budget) <= least * dense
    assert least - getattr(bottom, budget) / dense < 2e-3  # it is the least, up to its rounding


@pytest.mark.parametrize("keep", [0.31, 0.45, 0.65, 0.9])
def test_a_window_without_a_plan_names_one_that_works(keep: float, chain: Any, plan: Any) -> None:
    graph, cost = small_chain(chain, 64, 64, 64)
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        options = {
            "round_to": 32,
            "scope": "global",
            "scores": {group.name: torch.rand(64, generator=draw) for group in graph.groups},
        }
        with pytest.raises(RsPruneError, match="no plan lands within 1% below") as refusal:
            plan(graph, cost, keep, **options)
        nearest = stated(refusal.value)
        assert nearest < keep
        made = plan(graph, cost, nearest, **options)
        assert made.predicted.macs <= nearest * cost.dense().macs


def test_in_a_later_round_the_offer_is_a_share_of_the_dense_net(chain: Any) -> None:
    graph, cost = small_chain(chain, 10, 10)
    plan = Channels(min_channels=5)
    options = {
        "scores": scores_of(a=[float(i) for i in range(10)], b=[float(i) for i in range(10)]),
        "scope": GlobalMacs(),
        "budget": ChannelsBudget(keep=0.05),
        "dense": 40,
    }
    with pytest.raises(RsPruneError, match="cannot be reached") as refusal:
        plan(sight(graph, cost, **options, keep=0.2))
    assert stated(refusal.value) == 0.25
    assert plan(sight(graph, cost, **options, keep=0.25)).predicted.channels == 10


WRONG = [0, -1, 1.5, "abc", "0.5", math.nan, math.inf, None, [0.5], 1 + 1e-9, -0.0]


@pytest.mark.parametrize("keep", WRONG, ids=repr)
@pytest.mark.parametrize("budget", [MACs, Params, ChannelsBudget])
def test_a_keep_outside_of_its_range_is_refused(budget: Any, keep: Any) -> None:
    with pytest.raises(RsPruneError, match=r"budget\.keep") as refusal:
        budget(keep=keep)
    assert str(keep) in str(refusal.value)


@pytest.mark.parametrize("name", sorted({path.stem for path in (CONF / "budget").glob("*.yaml")} - {"bands"}))
def test_every_budget_builds_and_refuses(name: str) -> None:
    node = OmegaConf.load(CONF / "budget" / f"{name}.yaml")
    assert build(node, "budget").keep == node.keep
    for keep in (1, 1.0, 1e-6, 0.5):
        node.keep = keep
        assert build(node, "budget").keep == keep
    for keep in (0, -1, 1.5, "abc", math.nan):
        node.keep = keep
        with pytest.raises(RsPruneError, match="keep"):
            build(node, "budget")


def test_budgets_read_their_own_cost() -> None:
    cost = Cost(macs=1, params=2, channels=3)
    assert [budget(keep=1)(cost) for budget in (MACs, Params, ChannelsBudget)] == [1, 2, 3]


def test_scopes_by_hand() -> None:
    scores = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([1.0, 1.0, 4.0])}
    local = Local()(scores, {}, ())
    assert local["a"].tolist() == [1.0, 0.5]
    torch.testing.assert_close(local["b"], torch.tensor([1 / 3, 2 / 3, 1.0], dtype=torch.float64))
    ranked = GlobalMacs()(scores, {"a": 4.0, "b": 0.5}, ())
    assert ranked["a"].tolist() == [0.375, 0.125]
    assert ranked["b"].tolist() == [0.5, 0.5, 2.0]  # what saves less than one multiply-add counts as one
