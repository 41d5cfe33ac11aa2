"""N of every M weights: the pattern by hand, and what it asks of nets and budgets."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
from torch import nn

from rs_prune.contracts import MaskWeights
from rs_prune.criterion.cap import Cap
from rs_prune.errors import DoesNotApply, RsPruneError
from rs_prune.granularity.n_m import NM, pattern
from rs_prune.pruning.cost import sparse
from rs_prune.pruning.masking import bake, hold, unpack


def test_the_two_highest_of_every_four_stay() -> None:
    scores = torch.tensor([[1.0, 4, 3, 2, 8, 7, 6, 5], [0, -1, -2, -3, 1, 1, 1, 1]])
    assert pattern(scores, 2, 4).int().tolist() == [[0, 1, 1, 0, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1, 0, 0]]
    assert pattern(scores, 1, 2).int().tolist() == [[0, 1, 1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0, 1, 0]]
    assert pattern(scores, 3, 8).int().tolist() == [[0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1, 0]]
    assert pattern(torch.full((1, 4), -torch.inf), 2, 4).int().tolist() == [[1, 1, 0, 0]]


def test_runs_lie_along_the_inputs_each_kernel_position_by_itself() -> None:
    scores = torch.zeros(1, 4, 1, 2)
    scores[0, :, 0, 0] = torch.tensor([1.0, 2, 3, 4])
    scores[0, :, 0, 1] = torch.tensor([4.0, 3, 2, 1])
    mask = pattern(scores, 2, 4)
    assert mask.shape == (1, 4, 1, 2)
    assert mask[0, :, 0].int().tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_inner_layers_get_the_pattern_and_the_share_is_named(chain: nn.Module, sight: Any) -> None:
    # of 465 parameters half of the 288 of two.0 go: 321 stay, 0.6904 of the net
    with pytest.raises(
        RsPruneError, match=re.escape("no plan lands within 1% below it; the nearest is budget.keep=0.6904")
    ):
        NM()(sight(chain, 0.5))
    with pytest.raises(RsPruneError, match=r"nearest is budget\.keep=0\.6904"):
        NM()(sight(chain, 0.71))
    seen = sight(chain, 0.6904)
    plan = NM()(seen)
    assert plan.predicted.params == 321
    (edit,) = plan.edits
    assert isinstance(edit, MaskWeights)
    assert edit.layer == "two.0"
    mask, size = unpack(edit), chain.two[0].weight.detach().abs()  # type: ignore[index,union-attr]
    assert (mask.sum(1) == 2).all()  # 4 inputs: one run
    assert (size.masked_fill(mask, 0).amax(1) < size.masked_fill(~mask, 9).amin(1)).all()
    held = bake(hold(chain, plan, seen.graph))
    assert sparse(held, seen.cost.example) == (plan.predicted.macs, 321) == (64 * (108 + 144) + 40, 321)


def test_every_run_of_a_real_net_keeps_n(sight: Any) -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=5)
    with pytest.raises(RsPruneError) as refusal:
        NM()(sight(net, 1.0, size=32))
    seen = sight(net, float(str(refusal.value).rpartition("=")[2]), size=32)
    plan = NM()(seen)
    held = bake(hold(net, plan, seen.graph))
    assert sparse(held, seen.cost.example) == (plan.predicted.macs, plan.predicted.params)
    for name, module in held.named_modules():
        if isinstance(module, nn.Conv2d) and name != "conv1.0":
            there = (module.weight != 0).movedim(1, -1).reshape(-1, 4).sum(1)
            assert (there == 2).all(), name
    assert (held.conv1[0].weight != 0).all()
    assert (held.fc.weight != 0).all()


def test_widths_that_are_no_multiple_are_refused_or_left_dense(chain: nn.Module, sight: Any) -> None:
    with pytest.raises(RsPruneError, match=r"layer one\.0 has 3 inputs per filter, not a multiple of 4; .*skip=true"):
        NM(layers="all")(sight(chain, 0.5))
    plan = NM(layers="all", skip=True)(sight(chain, (321 - 20) / 465))
    assert [edit.layer for edit in plan.edits] == ["two.0", "head"]  # type: ignore[union-attr]
    assert plan.predicted.params == 321 - 20
    with pytest.raises(DoesNotApply, match="no layer of this net has a multiple of 8"):
        NM(n=4, m=8, skip=True)(sight(chain, 0.5))


def test_depthwise_layers_are_refused_or_left_dense(sight: Any) -> None:
    net = timm.create_model("mobilenetv2_035", num_classes=5)
    with pytest.raises(RsPruneError, match=r"layer blocks\.0\.0\.conv_dw has 1 inputs per filter"):
        NM()(sight(net, 0.5, size=32))
    with pytest.raises(RsPruneError, match=r"the nearest is budget\.keep=0\.5"):
        NM(skip=True)(sight(net, 0.9, size=32))


def test_what_does_not_fit_a_pattern(chain: nn.Module, sight: Any) -> None:
    with pytest.raises(DoesNotApply, match="budget=channels counts channels, and granularity=n_m removes none"):
        NM()(sight(chain, 0.6904, budget="channels"))
    with pytest.raises(DoesNotApply, match="one pattern and no steps"):
        NM()(sight(chain, 0.6904, step=0.8))
    with pytest.raises(DoesNotApply, match="criterion=cap ranks channels"):
        NM()(sight(chain, 0.6904, criterion=Cap()))
    for n, m in ((0, 4), (4, 4), (5, 4)):
        with pytest.raises(RsPruneError, match=f"n={n} of m={m}"):
            NM(n=n, m=m)
