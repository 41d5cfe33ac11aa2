"""Whole runs that prune bands: which stay, what the smaller net then gets, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from fakes import TINY_RUN, decode

from rs_prune.dataset.synthetic import Synthetic
from rs_prune.deploy.artifact import load_net
from rs_prune.errors import RsPruneError
from rs_prune.figure.band_ranking import BandRanking, shares_kept
from rs_prune.results import records
from rs_prune.results.stats import summarise
from rs_prune.scenes.bands import scaled
from rs_prune.scenes.spectral import BANDS, SIGNATURES

INFORMATIVE = ("B03", "B08", "B11")
BAND_RUN = (*TINY_RUN[1:], "granularity=bands", "budget=bands")


@pytest.fixture(scope="module")
def spectral(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Thirteen bands, of which three carry the label; 320 scenes."""
    root = tmp_path_factory.mktemp("spectral") / "scenes"
    made = {"images_per_class": 40, "size": 16, "difficulty": 0.5}
    Synthetic(root=str(root), informative=INFORMATIVE, **made)()
    words = [f"dataset.{key}={value}" for key, value in made.items()]
    return ["dataset=synthetic", f"dataset.root={root}", f"dataset.informative=[{','.join(INFORMATIVE)}]", *words]


def made() -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(Path("outputs/records").glob("*.json"))]


def test_only_three_bands_carry_the_label_and_nothing_else_tells(spectral: list[str]) -> None:
    """Mean brightness of the three gives the class; that of any other band, or of one of the three, does not."""
    root = Path(spectral[1].partition("=")[2])
    scenes = Synthetic(root=str(root), informative=INFORMATIVE, images_per_class=40, size=16, difficulty=0.5)()
    assert (scenes.bands, scenes.classes, scenes.scale) == (BANDS, SIGNATURES, 1e-4)
    means = []
    for file in scenes.files:
        with rasterio.open(scenes.root / file) as scene:
            means.append(scene.read().mean((1, 2)))
    level = np.log(np.array(means))
    level -= level.mean(1, keepdims=True)
    bright = np.array([[part == "bright" for part in scenes.classes[label].split("_")] for label in scenes.labels])
    related = np.abs(np.corrcoef(np.hstack([level, bright]).T)[:13, 13:]).max(1)
    told = np.array([band in INFORMATIVE for band in BANDS])
    assert (related[told] > 0.5).all()
    assert (related[~told] < 0.35).all()


def test_band_pruning_keeps_exactly_the_bands_that_carry_the_label(
    spectral: list[str], rs_prune: Callable[..., Any]
) -> None:
    """By attention on the input, and by the same net's weights; two seeds."""
    done = rs_prune(
        "run", "-m", *BAND_RUN, *spectral, "batch_size=16", "epochs=8", "finetune_epochs=0", "attach.input=only",
        "criterion=attention,l1", "seed=0,1", "budget.count=3",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert [record["bands"]["kept"] for record in made()] == [list(INFORMATIVE)] * 4
    assert all(record["accuracy"]["raw"]["test"] > 0.5 for record in made())  # an eighth by chance


def test_what_is_left_is_all_that_the_net_gets(spectral: list[str], rs_prune: Callable[..., Any]) -> None:
    """Three rounds of cuts and fine-tuning; the card's bands, chosen by name, are what the saved net takes."""
    done = rs_prune(
        "run", *BAND_RUN, *spectral, "schedule=iterative", "budget.count=4", "finetune_epochs=3", "attention=none",
        "criterion=l1", "limit=64", "recalibrate.images=32",
    )  # fmt: skip
    assert done.status == 0, done.err
    (record,) = made()
    (folder,) = Path("outputs/nets").iterdir()
    card = json.loads((folder / "net.json").read_text())
    assert card["bands"] == record["bands"]["kept"]
    assert card["dense_bands"] == record["bands"]["dense"] == list(BANDS)
    assert record["choices"]["keep"] == 4 / 13
    assert [record["cost"][which]["bands"] for which in ("dense", "pruned", "predicted")] == [13, 4, 4]
    assert record["cost"]["pruned"]["macs"] == record["cost"]["predicted"]["macs"] < record["cost"]["dense"]["macs"]
    assert record["checks"]["mask_error"] < 1e-4
    cuts = [len(edit["bands"]) for plan in record["plans"] for edit in plan["edits"]]
    assert (sum(cuts), len(cuts)) == (9, 3)
    root = Path(spectral[1].partition("=")[2])
    made_again = Synthetic(
        root=str(root), informative=INFORMATIVE, images_per_class=40, size=16, difficulty=0.5, bands=card["bands"]
    )()
    scenes, pixels, _ = decode(made_again)
    assert pixels.shape[1] == 4
    shape = (1, -1, 1, 1)
    x = scaled(scenes, torch.from_numpy(pixels)) - torch.tensor(card["mean"]).view(shape)
    logits = load_net(folder)(x / torch.tensor(card["std"]).view(shape))
    assert logits.shape == (320, 8)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("budget.count=14",), "budget.count=14: there are 13 bands (B01, B02"),
        (("budget=macs",), "choose granularity=bands with budget=bands"),
        (("granularity=channels",), "choose granularity=bands with budget=bands"),
        (("criterion=attention",), "attach.input=true"),
        (("attention=correlation", "attach.input=true"), "add attention=se"),
        (("attention=none", "attach.input=true"), "add attention=se"),
        (("attach.input=yes please",), "attach.input=yes please: must be false, true or only"),
        (("loss=distill",), "choose loss=cross_entropy"),
        (("schedule=soft",), "granularity=bands: bands are removed, not masked"),
        (("dataset.bands=[B04,B99]",), "no band B99; its bands are B01, B02"),
        (("dataset.informative=[B04,B99,B03]",), "must be three of B01"),
    ],
)
def test_what_makes_no_sense_gets_one_line(
    words: tuple[str, ...], said: str, spectral: list[str], rs_prune: Callable[..., Any]
) -> None:
    answer = rs_prune("run", *BAND_RUN, *spectral, "criterion=l1", "out=here", *words)
    assert answer.status == 1
    (line,) = [line for line in answer.err.splitlines() if line.startswith("rs-prune: ")]
    assert said in line
    assert not Path("here/records").exists()
    assert not Path("here/cache/dense").exists()


def finished(kept: list[str], seed: int, accuracy: float, criterion: str = "l1") -> dict[str, Any]:
    dense = ["a", "b", "c", "d"]
    choices = {
        "dataset": "some", "net": "net", "attention": "none", "criterion": criterion, "granularity": "bands",
        "schedule": "one_shot", "scope": "local", "budget": "bands", "keep": len(kept) / 4, "seed": seed, "epochs": 1,
        "finetune_epochs": 1, "selection": "val",
    }  # fmt: skip
    return {
        "digest": f"{criterion}{kept}{seed}", "status": "finished", "choices": choices, "config": {},
        "accuracy": {"final": {"test": accuracy, "val": accuracy}, "dense": {"test": 0.9, "val": 0.9}},
        "bands": {"dense": dense, "kept": kept} if kept != dense else {},
    }  # fmt: skip


def test_the_figure_ranks_bands_by_how_long_they_stay(tmp_path: Path) -> None:
    found = [
        finished(kept, seed, 0.5 + 0.1 * len(kept), criterion)
        for seed in (0, 1)
        for criterion in ("l1", "random")
        for kept in (["c"], ["a", "c"] if criterion == "l1" else ["b", "c"])
    ]
    runs = records.runs(found)
    shares = shares_kept(runs)
    assert shares["none/l1"].to_dict() == {"c": 1.0, "a": 0.5, "b": 0.0, "d": 0.0}
    assert (shares.index[0], shares.index[-1]) == ("c", "d")
    runs.to_csv(tmp_path / "runs.csv", index=False)
    again = records.read(tmp_path / "runs.csv")
    assert again["kept_bands"].tolist() == runs["kept_bands"].tolist()
    paths = BandRanking()(summarise(again), again, tmp_path)
    assert sorted(path.name for path in paths) == [
        "bands_accuracy.png", "bands_accuracy.svg", "bands_kept.png", "bands_kept.svg",
    ]  # fmt: skip
    assert all(path.stat().st_size > 1000 for path in paths)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in BandRanking()(summarise(again), again, tmp_path)] == before
    whole = records.runs([finished(["a", "b", "c", "d"], 0, 0.9)])
    with pytest.raises(RsPruneError, match="no run has lost bands"):
        BandRanking()(summarise(whole), whole, tmp_path)
