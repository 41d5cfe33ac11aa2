"""Every net of `conf/model`, and how it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from torch import nn

from rs_prune.model.timm_net import TimmNet

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "model"
MODELS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "timm")


def build(name: str, classes: int = 10, bands: int = 3) -> nn.Module:
    words = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert words.pop("_target_") == "rs_prune.model.timm_net.TimmNet"
    return TimmNet(**words)(classes, bands)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_any_bands_and_classes(name):
    net = build(name, classes=7, bands=4).eval()
    with torch.inference_mode():
        assert net(torch.zeros(2, 4, 64, 64)).shape == (2, 7)


def scales(net: nn.Module) -> list[float]:
    """What each norm begins with, in the order of the layers."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        assert norm.weight.unique().numel() == 1
    return [float(norm.weight[0]) for norm in norms]


def test_resnet18_torchvision_begins_as_torchvisions_does():
    theirs = torchvision.models.resnet18(num_classes=10)
    ours = build("resnet18_torchvision")
    shapes = [[tuple(value.shape) for value in net.state_dict().values()] for net in (ours, theirs)]
    assert sorted(shapes[0]) == sorted(shapes[1])
    assert scales(ours) == scales(theirs) == [1.0] * 20
    assert scales(build("resnet18")).count(0.0) == 8  # the last norm of each block
