"""Every experiment's file runs, whatever else changes; and paper's numbers stand beside ours."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from rs_prune import cli
from rs_prune.reproduce import Tally
from rs_prune.results.beside import beside, printed_numbers
from rs_prune.results.records import runs as read_runs
from rs_prune.sweep import arms

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))

BASELINE_NOT_AMONG_FIRST_VALUES = {"attention_vs_magnitude": {"paired_se"}, "budgeted_eurosat": {"paired", "images"}}
"""Experiment -> tables whose baseline comes later in a sweep, of which a smoke test takes the first value."""


def compose_experiment(item: str, **keys: Any) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("reproduce", [f"experiment={item}"])
    for key, value in keys.items():
        cfg[key] = value
    return cfg


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the few synthetic scenes of all smoke tests are drawn once."""
    return tmp_path_factory.mktemp("scenes") / "synthetic"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_at_the_smoke_scale(experiment, rs_prune, scenes, tmp_path):
    answer = rs_prune(
        "reproduce", f"experiment={experiment}", "scale=smoke", "out=here", f"cache={scenes.parent / 'cache'}",
        "--", f"dataset.root={scenes}",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert "failed" not in answer.err
    config = yaml.safe_load((ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text())
    table = pd.read_csv(tmp_path / "here" / "report" / "beside.csv")
    assert set(config["arms"]) <= set(table["arm"])  # no arm was skipped as a whole
    written = {path.name for path in (tmp_path / "here" / "report").iterdir()}
    assert {"runs.csv", "pareto.md", "per_class.md", "report.html"} <= written
    tables = compose_experiment(experiment).table
    compared = {name for name, node in tables.items() if "baseline" in node and "curves" not in name}
    missing = {name for name in compared if f"{tables[name].get('name', name)}.md" not in written}
    assert missing == BASELINE_NOT_AMONG_FIRST_VALUES.get(experiment, set())
    if "paired" not in missing:  # with one value of every sweep there is no curve
        assert "table curves: table.curves: no arm has two budgets" in answer.out
    assert any(name.startswith("per_class_") and name.endswith(".png") for name in written)


def test_every_arm_that_a_paper_printed_is_an_arm_here():
    for path in (ROOT / "experiments").glob("*/paper.csv"):
        ours = yaml.safe_load((ROOT / "conf" / "experiment" / f"{path.parent.name}.yaml").read_text())["arms"]
        assert set(printed_numbers(path.parent.name)["arm"]) <= {"dense", *ours}


def test_the_command_comes_after_the_arm_and_counts():
    cfg = compose_experiment("remotetrimmer_table1_fair", scale="cpu", words="epochs=3 seed=4,5", workers=2)
    planned = {arm.name: arm for arm in arms(cfg)}
    assert planned["l1"].runs == 2
    assert "epochs=3" in planned["l1"].words and "epochs=10" not in planned["l1"].words
    assert {"launcher=parallel", "workers=2", "finetune_epochs=3"} <= set(planned["l1"].words)
    assert [arm.name for arm in arms(compose_experiment("pfam", only="l2"))] == ["l2"]
    assert [arm.name for arm in arms(compose_experiment("pfam", only=["random", "l2"]))] == ["l2", "random"]


def test_equal_total_epochs_in_every_arm():
    for item in ("remotetrimmer_table1_fair", "attention_vs_magnitude", "fpgm_soft", "budgeted_eurosat"):
        for scale in ("full", "cpu"):
            totals = set()
            for arm in arms(compose_experiment(item, scale=scale)):
                words = dict(word.split("=", 1) for word in arm.words)
                totals.add(int(words["epochs"]) + int(words["finetune_epochs"]))
            assert len(totals) == 1, (item, scale)


def test_an_unknown_scale_or_arm_is_named(rs_prune):
    answer = rs_prune("reproduce", "experiment=pfam", "scale=huge")
    assert answer.status == 1
    assert "scale=huge: must be one of full, cpu, smoke" in answer.err
    answer = rs_prune("reproduce", "experiment=pfam", "only=l3")
    assert "only=l3: experiment=pfam has the arms correlated, distinct, fpgm" in answer.err
    assert "only=l3:" in rs_prune("reproduce", "experiment=pfam", "only=[l2,l3]").err
    answer = rs_prune("reproduce", "experiment=nothing")
    assert "the options are" in answer.err and "pfam" in answer.err


def test_a_wandb_sweep_holds_every_word_of_its_arm(rs_prune, tmp_path):
    answer = rs_prune("reproduce", "experiment=budgeted_eurosat", "wandb_sweeps=sweeps")
    assert answer.status == 0, answer.err
    sweep = yaml.safe_load((tmp_path / "sweeps" / "budgeted_eurosat-l1_10.yaml").read_text())
    assert sweep["method"] == "grid"
    assert sweep["parameters"]["schedule"] == {"values": ["one_shot", "iterative", "gradual"]}
    assert sweep["parameters"]["budget.keep"] == {"value": "0.1"}
    assert sweep["parameters"]["logger"] == {"value": "wandb"}
    assert sweep["command"][1:3] == ["rs-prune", "run"]
    assert not (tmp_path / "outputs").exists()


def runs(arm: str, accuracies: list[float], **words: object) -> pd.DataFrame:
    """Rows as `records.runs` gives them: one seed each."""
    records = [
        {
            "digest": f"{arm}-{seed}-{sorted(words.items())}",
            "status": "finished",
            "choices": {
                "dataset": "eurosat", "net": "resnet18_torchvision", "attention": "none", "criterion": arm, "keep": 0.3,
                "seed": seed, "granularity": "channels", "schedule": "one_shot", "scope": "local", "budget": "channels",
                "epochs": 10,
                "finetune_epochs": 3, "selection": "val", **words,
            },
            "accuracy": {"final": {"test": accuracy, "val": accuracy}, "dense": {"test": 0.9, "val": 0.9}},
            "cost": {
                "dense": {"params": 11_200_000, "macs": 150_000_000},
                "pruned": {"params": 1_000_000, "macs": 15_100_000},
            },
        }
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    return read_runs(records)


def of_arms(**arms: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, set[str]]]:
    digests = {name: set(table["digest"]) for name, table in arms.items()}
    return pd.concat(arms.values(), ignore_index=True), digests


def test_our_numbers_stand_beside_the_printed_ones():
    paper = printed_numbers("remotetrimmer_table1")
    table = beside(paper, *of_arms(l1=runs("l1", [0.90, 0.92]), se_l1=runs("l1", [0.91], attention="se")))
    l1 = table[
        (table["arm"] == "l1") & (table["dataset"] == "eurosat") & (table["net"] == "resnet18_torchvision")
    ].iloc[0]
    assert l1["paper"] == pytest.approx(87.2)
    assert l1["ours"] == pytest.approx(91.0)
    assert l1["difference"] == pytest.approx(3.8)
    assert l1["half"] == pytest.approx(12.706 * 1.0, rel=1e-3)  # t(0.975, 1) times 1.414 / sqrt 2
    dense = table[
        (table["arm"] == "dense") & (table["net"] == "resnet18_torchvision") & (table["dataset"] == "eurosat")
    ].iloc[0]
    assert (dense["paper"], dense["seeds"], dense["params"]) == (pytest.approx(87.0), 2, pytest.approx(11.2))
    assert dense["ours"] == pytest.approx(90.0)
    mine = table[table["arm"] == "se_l1"]
    assert len(mine) == 1 and mine["paper"].isna().all()
    not_run = table[table["ours"].isna()]
    assert len(not_run) == len(paper) - 2  # what they printed and we did not run is there too


def test_what_an_arm_sweeps_besides_seeds_is_not_averaged():
    plain = pd.concat([runs("l1", [0.92, 0.90]), runs("random", [0.80, 0.78])])
    table = beside(printed_numbers("pfam"), *of_arms(plain=plain))
    found = table[table["arm"] == "plain"].set_index("words")
    assert found.loc["criterion=l1", "ours"] == pytest.approx(91)
    assert found.loc["criterion=random", "ours"] == pytest.approx(79)
    assert set(found["seeds"]) == {2}


def test_nets_trained_with_a_penalty_are_no_seeds_of_the_plain_dense_net():
    plain, slim = runs("l1", [0.90, 0.92]), runs("bn_scale", [0.90, 0.91])
    slim = slim.assign(dense_accuracy=[0.7, 0.71], variant="penalty=slimming")
    table = beside(printed_numbers("remotetrimmer_table1"), *of_arms(l1=plain, bn=slim))
    dense = table[(table["arm"] == "dense") & table["ours"].notna()]
    assert dense["ours"].tolist() == [pytest.approx(90), pytest.approx(70.5)]
    assert dense["paper"].notna().tolist() == [True, False]


def test_a_printed_rate_belongs_to_its_own_budget():
    ours = pd.concat([runs("cap", [0.9], keep=0.9), runs("cap", [0.8], keep=0.1)])
    table = beside(printed_numbers("remotetrimmer_fig3_rates"), *of_arms(se=ours))
    found = table[(table["arm"] == "se") & table["ours"].notna()].set_index("keep")["paper"]
    assert found[0.9] == pytest.approx(92.7) and found[0.1] == pytest.approx(87.6)


def test_words_that_cannot_be_composed_cost_their_arm_alone(rs_prune, scenes, tmp_path):
    answer = rs_prune(
        "reproduce", "experiment=pfam", "only=[correlated,l2]", "scale=smoke", "out=here", "page=[]", "figure=[]",
        "--", f"dataset.root={scenes}", "criterion=l2",
    )  # fmt: skip
    assert answer.status == 1
    assert "1 runs failed; the first: arm correlated: criterion.keep: no such key" in answer.err
    assert {"l2"} <= set(pd.read_csv(tmp_path / "here" / "report" / "beside.csv")["arm"])


def test_arms_run_side_by_side_leave_all_their_records(rs_prune, scenes, tmp_path):
    answer = rs_prune(
        "reproduce", "experiment=pfam", "only=[l2,random]", "scale=smoke", "out=here", "workers=2", "page=[]",
        "figure=[]", "-q", "--", f"dataset.root={scenes}",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert answer.out == ""
    assert len(list((tmp_path / "here" / "records").glob("*.json"))) == 2


def test_what_has_ended_is_told_while_other_runs_go_on(monkeypatch):
    first, told = threading.Event(), []

    def sweep(verb, words, journal):
        with journal.open("a") as lines:
            lines.write('{"record": "one.json"}\n{"failed": "tw')
            lines.flush()
            assert first.wait(30)
            lines.write('o"}\n')

    def tell(outcomes):
        told.append(outcomes)
        first.set()

    monkeypatch.setattr(cli, "_hydra", sweep)
    assert cli.runs_of("run", [], tell) == ([Path("one.json")], ["two"])
    assert told[0] == ([Path("one.json")], [])


def test_runs_that_were_found_done_say_nothing_of_the_time_left(tmp_path, monkeypatch):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    tally = Tally(5)
    for path, when in ((old, tally.started - 1), (new, tally.started + 1)):
        path.touch()
        os.utime(path, (when, when))
    tally.count(([old], []), 0)
    assert str(tally) == "1 of 5 runs done"
    tally.count(([new], []), 1)
    monkeypatch.setattr(time, "time", lambda: tally.started + 120)
    assert str(tally) == "2 of 5 runs done, about 6 min left"  # one run in two minutes, three to come
    tally.count(([new], ["one that failed"]), 3)
    assert str(tally) == "5 of 5 runs done"


def test_what_follows_the_dashes_is_for_runs_alone(rs_prune):
    assert "is for the runs that `rs-prune reproduce` starts" in rs_prune("run", "--", "seed=0").err
    answer = rs_prune("reproduce", "experiment=pfam", "--", "out=elsewhere")
    assert "-- out=elsewhere: is for all runs together; set out= or workers= before the --" in answer.err


def test_what_is_sent_is_what_was_written_and_the_page_says_what_gives_it_again(rs_prune, scenes, tmp_path, sent):
    answer = rs_prune(
        "reproduce", "experiment=pfam", "only=l2", "scale=smoke", "out=here", "logger=wandb", "logger.offline=true",
        f"logger.save_dir={sent}", "figure=[]", "-q", "--", f"dataset.root={scenes}",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    media = [path.name.rpartition("_")[0].rsplit("_", 1)[0] for path in sent.glob("**/media/**/*.*")]
    assert {"beside", "table", "runs", "per_class", "pareto", "report"} <= set(media)
    page = (tmp_path / "here" / "report" / "report.html").read_text()
    assert f"rs-prune reproduce experiment=pfam scale=smoke only=l2 -- dataset.root={scenes}" in page


@pytest.mark.parametrize("out", ["/tmp/my dir/x", "/tmp/it's/x", 'quo"te', "plain/~x"])
def test_a_path_of_any_name_reaches_the_runs(out):
    (arm,) = arms(compose_experiment("pfam", only="l2", out=out, cache=f"{out}/cache"))
    words = {o.get_key_element(): o.value() for o in OverridesParser.create().parse_overrides(list(arm.words))}
    assert (str(words["out"]), str(words["cache"])) == (out, f"{out}/cache")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("report=a_file",), "report=a_file: is a file; name a folder"),
        (("report=null",), "report: names no folder; set report=<folder>"),
        (("workers=0",), "workers=0: must be a whole number from 1 on"),
        (("workers=abc",), "workers=abc: must be a whole number from 1 on"),
        (("only=[]",), "only=[]: experiment=pfam has the arms correlated"),
        (("only=5",), "only=5: experiment=pfam has the arms correlated"),
        (("+table.mine._target_=nowhere.Table",), "table.mine: nowhere.Table cannot be built"),
        (("--", "++out=elsewhere"), "-- ++out=elsewhere: is for all runs together"),
    ],
)
def test_mistakes_are_told_before_anything_runs(words, told, rs_prune, tmp_path):
    (tmp_path / "a_file").write_text("mine")
    answer = rs_prune("reproduce", "experiment=pfam", "out=here", *words)
    assert answer.status == 1
    assert told in answer.err and len(answer.err.splitlines()) == 1
    assert not (tmp_path / "here").exists()
    assert (tmp_path / "a_file").read_text() == "mine"


def test_an_experiment_is_asked_for(rs_prune):
    assert "experiment: has no value yet; the options are attention_vs_magnitude" in rs_prune("reproduce").err


def test_a_document_that_fails_is_told_and_costs_no_other(rs_prune, scenes, tmp_path):
    answer = rs_prune(
        "reproduce", "experiment=pfam", "only=l2", "scale=smoke", "out=here", "-q", "figure.accuracy_macs.x=flops",
        "--", f"dataset.root={scenes}",
    )  # fmt: skip
    assert answer.status == 1
    assert "figure.accuracy_macs.x=flops" in answer.err and len(answer.err.splitlines()) == 1
    written = {path.name for path in (tmp_path / "here" / "report").iterdir()}
    assert {"table.md", "beside.md", "report.html"} <= written and "accuracy_macs.png" not in written
