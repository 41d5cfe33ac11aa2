"""Scopes by hand, and what every scope holds to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from rs_prune.budget.channels import Channels as ChannelsBudget
from rs_prune.contracts import Group, Member, Scores, Touched
from rs_prune.errors import RsPruneError
from rs_prune.pruning.cost import CostModel
from rs_prune.pruning.graph import trace
from rs_prune.pruning.planner import WINDOW, plan_channels
from rs_prune.scope.isomorphic import Isomorphic, structure
from rs_prune.scope.sensitivity import Sensitivity

CONF = Path(__file__).parents[2] / "conf" / "scope"
SCOPES = sorted(path.stem for path in CONF.glob("*.yaml"))


def group(name: str, channels: int, *sides: str, members: int = 1) -> Group:
    each = tuple((channel,) for channel in range(channels))
    touched = tuple(Touched(f"{name}.{place}", side, each) for place, side in enumerate(sides))
    scored = [layer.layer for layer in touched if layer.side == "out"][:members]
    return Group(name, channels, tuple(Member(layer, tuple(range(channels))) for layer in scored), touched)


# a and b: convolution, norm, one reader; c: two convolutions
GROUPS = (group("a", 2, "out", "out", "in"), group("c", 2, "out", "out", "in", members=2),
          group("b", 4, "out", "out", "in"))  # fmt: skip
SCORES = {
    name: torch.tensor(row) for name, row in {"a": [1.0, 3.0], "b": [2.0, 6.0, 4.0, 8.0], "c": [7.0, 5.0]}.items()
}
SAVED = {"a": 10.0, "b": 20.0, "c": 40.0}


def close(found: Scores, expected: dict[str, Sequence[float]], tolerance: float = 1e-12) -> None:
    assert set(found) == set(expected)
    for name, row in expected.items():
        wanted = torch.tensor(row, dtype=torch.float64)
        torch.testing.assert_close(found[name].double(), wanted, rtol=0, atol=tolerance)


def test_isomorphic_by_hand() -> None:
    # over the mean a: 0.5, 1.5; b: 0.4, 1.2, 0.8, 1.6. Together in order: b0 a0 b2 b1 a1 b3
    expected = {"a": [2 / 6, 5 / 6], "b": [1 / 6, 4 / 6, 3 / 6, 6 / 6], "c": [1, 0.5]}
    close(Isomorphic()(SCORES, SAVED, GROUPS), expected)
    close(Isomorphic()(SCORES, SAVED, GROUPS[::-1]), expected)


def test_isomorphic_by_width_too() -> None:
    expected = {"a": [0.5, 1], "b": [0.25, 0.75, 0.5, 1], "c": [1, 0.5]}
    close(Isomorphic(widths=True)(SCORES, SAVED, GROUPS), expected)


@pytest.mark.parametrize(
    "other",
    [
        group("o", 2, "out", "in"),
        group("o", 2, "out", "out", "in", "in"),
        group("o", 2, "out", "out", "in", members=2),
        Group("o", 2, (Member("o", (0, 1)),), (
            Touched("o", "out", ((0,), (1,))), Touched("n", "out", ((0,), (1,))), Touched("i", "in", ((0, 1), (2, 3))),
        )),
    ],
)  # fmt: skip
def test_what_sets_structures_apart(other: Group) -> None:
    assert structure(other) != structure(GROUPS[0])
    assert structure(GROUPS[2]) == structure(GROUPS[0])


def test_in_a_resnet_the_inner_convolutions_are_of_one_kind_and_every_kind_loses_the_same_share() -> None:
    net, example = timm.create_model("resnet18", num_classes=5).eval(), torch.zeros(1, 3, 64, 64)
    graph = trace(net, example)
    kinds: dict[Any, list[Group]] = {}
    for found in graph.groups:
        kinds.setdefault(structure(found), []).append(found)
    inner = {found.name for found in graph.groups if found.name.endswith("conv1") and found.name != "conv1"}
    assert len(inner) == 8
    assert inner in [{found.name for found in kind} for kind in kinds.values()]
    assert 2 < len(kinds) < len(graph.groups)
    draw = torch.Generator().manual_seed(0)
    scores = {found.name: torch.rand(found.channels, generator=draw) ** 4 for found in graph.groups}
    cost = CostModel(net, graph.groups, example)
    dense = cost.dense().channels
    plan = plan_channels(
        scores=scores, groups=graph.groups, cost=cost, scope=Isomorphic(), budget=ChannelsBudget(keep=0.6),
        target=0.6 * dense, tolerance=WINDOW * dense, min_channels=1, round_to=1,
    )  # fmt: skip
    gone = {edit.group: len(edit.channels) for edit in plan.edits}
    for kind in kinds.values():
        size = sum(found.channels for found in kind)
        assert sum(gone[found.name] for found in kind) == pytest.approx(0.4 * size, abs=2)
    shares = [gone[name] / scores[name].numel() for name in inner]
    assert max(shares) - min(shares) > 0.01  # within a kind the layers compete


# ------------------------------------------------------------------------------------- sensitivity

SCAN = """group,channels,share,kept,macs,val_accuracy,val_loss
a,4,0.0,4,9,0.9,1
a,4,0.5,2,9,0.8,1
a,4,0.75,1,9,0.85,1
b,2,0.0,2,9,0.9,1
b,2,0.5,1,9,0.92,1
"""
RANKED = {"a": torch.tensor([3.0, 1.0, 4.0, 2.0]), "b": torch.tensor([8.0, 9.0])}


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.csv"
    path.write_text(SCAN)
    return path


def test_sensitivity_by_hand(scan: Path) -> None:
    # a loses 0.05, 0.1, then not more; b loses nothing, whatever goes: there the rank decides
    found = Sensitivity(scan=str(scan))(RANKED, {"a": 4.0, "b": 2.0}, ())
    close(found, {"a": [0.1, 0.05, 0.1, 0.1], "b": [0, 0]}, tolerance=2e-9)
    assert found["a"].argsort().tolist() == [1, 3, 0, 2]
    assert found["b"].argsort().tolist() == [0, 1]
    per_mac = Sensitivity(scan=str(scan), per_mac=True)(RANKED, {"a": 4.0, "b": 2.0}, ())
    close(per_mac, {"a": [0.025, 0.0125, 0.025, 0.025], "b": [0, 0]}, tolerance=2e-9)


def test_sensitivity_in_a_later_round_goes_on_where_the_last_one_stopped(scan: Path) -> None:
    scan.write_text(SCAN.replace("0.85", "0.6"))
    found = Sensitivity(scan=str(scan))({"a": torch.tensor([2.0, 1.0, 3.0])}, {"a": 1.0}, ())
    # one of four went before: what goes next has been scanned as shares 0.5, 0.75 and more
    close(found, {"a": [0.3, 0.1, 0.3]}, tolerance=2e-9)


@pytest.mark.parametrize(
    ("text", "scores", "said"),
    [
        (None, RANKED, "cannot be read"),
        ("", RANKED, "cannot be read"),
        ("group,channels\na,4\n", RANKED, "column kept"),
        (SCAN.replace("a,4,0.0,4", "a,4,0.1,3"), RANKED, "group a has no row with all channels kept"),
        (SCAN, {"c": torch.ones(2)}, "knows no group c"),
        (SCAN, {"a": torch.ones(5)}, "group a has 4 channels there and 5 here"),
        (SCAN.replace("0.85", "x"), RANKED, "val_accuracy"),
        (SCAN.replace("0.85", ""), RANKED, "val_accuracy"),
    ],
)
def test_a_scan_that_does_not_fit_is_named(tmp_path: Path, text: str | None, scores: Scores, said: str) -> None:
    path = tmp_path / "scan.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RsPruneError, match=said) as refusal:
        Sensitivity(scan=str(path))(scores, {"a": 1.0, "b": 1.0, "c": 1.0}, ())
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


# --------------------------------------------------------------------- what every scope holds to


@pytest.mark.parametrize("name", SCOPES)
def test_every_scope_keeps_the_order_within_a_group(name: str, tmp_path: Path) -> None:
    rows = [f"{group.name},{group.channels},0,{group.channels - gone},9,{0.9 - 0.1 * gone},1"
            for group in GROUPS for gone in (0, 1)]  # fmt: skip
    (tmp_path / "scan.csv").write_text("\n".join([SCAN.splitlines()[0], *rows]))
    node = OmegaConf.load(CONF / f"{name}.yaml")
    if OmegaConf.is_missing(node, "scan"):
        node.scan = str(tmp_path / "scan.csv")
    scope = instantiate(node)
    before = {key: row.clone() for key, row in SCORES.items()}
    found = scope(SCORES, SAVED, GROUPS)
    assert set(found) == set(SCORES)
    for key, row in SCORES.items():
        assert found[key].shape == row.shape
        assert torch.isfinite(found[key]).all()
        assert torch.equal(found[key].argsort(), row.argsort())
        assert torch.equal(row, before[key])
    again = scope(SCORES, SAVED, GROUPS)
    assert all(torch.equal(found[key], again[key]) for key in found)
