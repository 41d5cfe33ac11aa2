"""`rs-prune scan`: one group pruned at a time, on the very net that a run starts from."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
import torch
from fakes import TINY_RUN
from torch.nn import functional as F

from rs_prune.contracts import Plan, RemoveChannels
from rs_prune.criterion.l1 import L1
from rs_prune.pruning.gate import detach, gates
from rs_prune.pruning.surgery import mask
from rs_prune.training.fit import evaluate


def test_a_scan_measures_each_group_and_its_curves_guide_a_run(rs_prune, scene_folder, tmp_path, monkeypatch):
    from rs_prune import scan

    seen: dict[str, Any] = {}
    whole = scan._scan

    def spy(job: Any, view: Any, *rest: Any) -> pd.DataFrame:
        seen.update(job=job, view=view)
        return whole(job, view, *rest)

    monkeypatch.setattr(scan, "_scan", spy)
    words = (*TINY_RUN, f"dataset.root={scene_folder}", "attention=se", "criterion=l1", "out=here")
    answer = rs_prune("scan", *words, "shares=[0.5,0.25]")
    assert answer.status == 0, answer.err
    job, view = seen["job"], seen["view"]
    folder = tmp_path / "here" / "scan" / job.dense_id
    (folder,) = folder.iterdir()
    assert folder.name.startswith("l1-")
    assert {path.name for path in folder.iterdir()} == {"scan.csv", "sensitivity.png", "sensitivity.svg"}
    assert str(folder / "scan.csv")[len(str(tmp_path)) + 1 :] in answer.out
    table = pd.read_csv(folder / "scan.csv")
    assert list(table) == ["group", "channels", "share", "kept", "macs", "val_accuracy", "val_loss"]
    groups = view.graph.groups
    assert table["group"].tolist() == [group.name for group in groups for _ in range(3)]
    assert table["share"].tolist() == [0, 0.25, 0.5] * len(groups)
    assert all(f"{group.name} " in answer.out for group in groups)

    # by masks on the folded net, not by removal
    assert list(gates(view.net))
    scores = view.scores(L1())
    plain = detach(view.net).cpu()
    batch = next(job.data.batches("val"))

    def loss(net: torch.nn.Module) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(net.eval()(batch["image"]), batch["label"]))

    for group in groups:
        rows = table[table["group"] == group.name].set_index("share")
        kept = round(0.5 * group.channels)
        assert rows["kept"].to_dict()[0.5] == kept
        lowest = scores[group.name].argsort()[: group.channels - kept].tolist()
        masked = mask(plain, Plan((RemoveChannels(group.name, tuple(lowest)),), None), groups)
        assert rows["val_accuracy"][0.5] == pytest.approx(evaluate(masked, job.data, "val")[0])
        assert rows["val_loss"][0.5] == pytest.approx(loss(masked), rel=1e-4)
        assert rows["val_accuracy"][0.0] == pytest.approx(evaluate(plain, job.data, "val")[0])
        assert rows["val_loss"][0.0] == pytest.approx(loss(plain), rel=1e-4)
        assert rows["macs"].is_monotonic_decreasing
        assert rows["macs"].is_unique

    # the run finds the same dense net, and its digest holds what is in the scan
    guided = ("run", *words, "scope=sensitivity", f"scope.scan={folder / 'scan.csv'}", "quiet=true")
    assert rs_prune(*guided).status == 0
    assert [path.name for path in (tmp_path / "here" / "cache" / "dense").glob("[!.]*")] == [job.dense_id]
    first = table["group"] == groups[0].name  # now the one that nothing depends on
    table.assign(val_accuracy=1 - table["share"] * ~first).to_csv(folder / "scan.csv", index=False)
    assert rs_prune(*guided).status == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "here" / "records").glob("*.json")]
    assert len(records) == 2
    edits = [record["plans"][0]["edits"] for record in records]
    removed = sorted({edit["group"]: len(edit["channels"]) for edit in found}.get(groups[0].name, 0) for found in edits)
    assert removed[0] < removed[1] == groups[0].channels - 2


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("shares=[0.5,1]", "shares=[0.5, 1]: must be a list of numbers between 0 and 1"),
        ("shares=[]", "shares=[]: must be a list"),
        ("shares=0.5", "shares=0.5: must be a list"),
        ("shares=[a]", "shares=['a']: must be a list"),
        ("images=0", "images=0: must be a whole number of at least 1"),
        ("images=few", "images=few: must be"),
        ("shares=[0.5] attention=none criterion=cap", "criterion=cap reads gates"),
        ("epochs=0", "epochs=0: must be a whole number of at least 1"),
        ("image=3", "image"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_trained(word, said, rs_prune, scene_folder, tmp_path):
    answer = rs_prune("scan", *TINY_RUN, f"dataset.root={scene_folder}", "out=here", *word.split())
    assert answer.status == 1
    (line,) = [line for line in answer.err.splitlines() if line.startswith("rs-prune: ")]
    assert said in line
    assert "Traceback" not in answer.err
    assert not list(tmp_path.glob("here/cache/dense/*/dense.json"))


@pytest.mark.parametrize("verb", ["scan", "compare"])
def test_help_lists_the_verbs_own_keys_and_all_of_a_run(verb, rs_prune):
    answer = rs_prune(verb, "--help")
    run = rs_prune("run", "--help").out
    assert answer.status == 0
    assert {"scan": "shares: ", "compare": "criteria: "}[verb] in answer.out
    for line in run.splitlines()[4:]:
        if line.startswith("  ") and "rs-prune" not in line:
            assert line in answer.out
    assert verb in rs_prune("--help").out
