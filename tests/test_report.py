"""`rs-prune report` on generated records with planted values."""

from __future__ import annotations

import html
import io
import json
import re
import shlex
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from matplotlib.image import imread
from rich.console import Console
from scipy import stats

from rs_prune import report
from rs_prune.cli import main
from rs_prune.errors import RsPruneError
from rs_prune.results.files import write
from rs_prune.results.page.made import made as made_of
from rs_prune.results.records import read
from rs_prune.results.show import print_table
from rs_prune.sweep import _first
from rs_prune.table.latex import escape

CONF = Path(__file__).parents[1] / "conf"
ACCURACIES = {0: 0.90, 1: 0.92, 2: 0.97}  # l1, attention=none, keep=0.5, by seed
ALL = {
    "table.md", "runs.csv", "table.csv", "table.tex", "accuracy_macs.png", "accuracy_macs.svg", "report.html",
}  # fmt: skip
SAME = ALL - {"report.html"}  # the page says which command made it, and from what


def record(
    attention: str, criterion: str, keep: float, seed: int, test: float, val: float, **words: Any
) -> dict[str, Any]:
    choices = {
        "dataset": "eurosat_rgb", "net": "resnet_10", "attention": attention, "criterion": criterion,
        "granularity": "channels", "schedule": "one_shot", "scope": "local", "budget": "macs", "keep": keep,
        "seed": seed, "epochs": 10, "finetune_epochs": 3, "selection": "val", **words,
    }  # fmt: skip
    dense = {"none": 0.98, "se": 0.96}[attention]
    return {
        "digest": "-".join(str(word) for word in choices.values()),
        "status": "finished",
        "choices": choices,
        "config": {"seed": seed},
        "accuracy": {
            "dense": {"test": dense, "val": dense},
            "raw": {"test": 0.1234, "val": 0.1},
            "final": {"test": test, "val": val},
        },
        "cost": {
            "dense": {"params": 1_234_567, "macs": 20_000_000},
            "pruned": {"params": int(1_234_567 * keep), "macs": int(19_900_000 * keep)},
        },
        "latency": {"dense": {"median_ms": 5.0}, "pruned": {"median_ms": 2.5}},
        "checks": {"mask_error": 1e-6},
        "times": {"dense": 1.0},
        "per_class": {"dense": {"Forest": 0.99, "River": dense}, "final": {"Forest": test, "River": test - 0.125}},
    }


def sweep(seeds: int = 3) -> list[dict[str, Any]]:
    """At keep=0.5, attention=none, l1 is best on test data and random on validation data."""
    found = []
    for seed in range(seeds):
        found += [record("none", "l1", 0.5, seed, ACCURACIES[seed], 0.80)]
        found += [record("none", "random", 0.5, seed, 0.60, 0.99)]
        found += [record("se", "l1", 0.5, seed, 0.85 + seed / 100, 0.81)]
        found += [record(attention, "l1", 0.25, seed, 0.70, 0.70) for attention in ("none", "se")]
        found += [
            {
                **record("none", "cap", keep, seed, 0, 0),
                "status": "skipped",
                "reason": "criterion=cap needs gates",
            }
            for keep in (0.25, 0.5)
        ]
    return found


def save(out: Path, records: list[dict[str, Any]]) -> None:
    folder = out / "records"
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(one))


Run = Callable[..., Path]


def call(*overrides: str, out: Path) -> Path:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("report", [f"out={out}", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    report.main(cfg)
    return Path(cfg.report)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the verb on the shipped configuration and gives the folder of the report."""
    return partial(call, out=tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of `sweep`."""
    out = tmp_path_factory.mktemp("sweep")
    save(out, sweep())
    return call("quiet=true", out=out)


def lines(folder: Path) -> list[dict[str, str]]:
    """The rows of `table.md` by heading."""
    table = [line for line in (folder / "table.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def pick(rows: list[dict[str, str]], **cells: str) -> dict[str, str]:
    found = [row for row in rows if cells.items() <= row.items()]
    assert len(found) == 1
    return found[0]


def test_markdown_has_the_planted_numbers(made: Path) -> None:
    rows = lines(made)
    row = pick(rows, attention="none", criterion="l1", keep="0.5")
    half = stats.t.ppf(0.975, 2) * np.std(list(ACCURACIES.values()), ddof=1) / np.sqrt(3)
    assert row == {
        "data set": "eurosat_rgb", "net": "resnet_10", "attention": "none", "criterion": "l1", "keep": "0.5",
        "seeds": "3", "MACs (M)": "9.95", "MACs (%)": "49.8", "params (M)": "0.617",
        "accuracy (%)": f"93.00 ± {100 * half:.2f}", "drop (points)": f"5.00 ± {100 * half:.2f}",
        "after removal (%)": "12.34", "latency (ms)": "2.50",
    }  # fmt: skip
    dense = pick(rows, attention="se", criterion="dense")
    assert (dense["accuracy (%)"], dense["MACs (M)"], dense["params (M)"]) == ("96.00", "20.0", "1.23")
    assert len(rows) == 2 + 5
    assert "schedule=one_shot" in (made / "table.md").read_text()


def test_bold_is_chosen_on_validation_data(made: Path) -> None:
    bold = [row for row in lines(made) if "**" in row["accuracy (%)"]]
    assert [(row["criterion"], row["keep"]) for row in bold if row["keep"] == "0.5"] == [("random", "0.5")]
    assert pick(bold, keep="0.5")["accuracy (%)"] == "**60.00**"
    tex = (made / "table.tex").read_text()
    assert [line.split(" & ")[3] for line in tex.splitlines() if "bf{60" in line] == ["random"]
    assert tex.count(r"\textbf") == len(bold)


def test_latex_is_well_formed(made: Path) -> None:
    tex = (made / "table.tex").read_text()
    assert all(rule in tex for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{", r"\label{"))
    assert r"eurosat\_rgb & resnet\_10 & none & l1 & 0.5 & 3 & 9.95 & 49.8 & 0.617 & 93.00 $\pm$ 8.96" in tex
    assert tex.count("{") == tex.count("}")
    assert not re.search(r"(?<!\\)[%#_]", tex)
    body = [line for line in tex.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in body} == {12}
    assert escape(r"a_b 5% \ {x}") == r"a\_b 5\% \textbackslash{} \{x\}"


def test_csv_files(made: Path) -> None:
    runs = read(made / "runs.csv")
    assert len(runs) == 15
    mine = runs.query("criterion == 'l1' and attention == 'none' and keep == 0.5")
    assert list(mine["accuracy"]) == [0.90, 0.92, 0.97]
    assert ",20000000,9950000," in (made / "runs.csv").read_text()
    table = pd.read_csv(made / "table.csv", keep_default_na=False, na_values=[""])
    row = table.query("criterion == 'l1' and attention == 'none' and keep == 0.5").iloc[0]
    assert row["accuracy"] == pytest.approx(0.93)
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(
        stats.t.interval(0.95, 2, loc=0.93, scale=stats.sem([0.90, 0.92, 0.97]))
    )


def test_a_committed_runs_csv_gives_the_same_report(tmp_path: Path, made: Path, run: Run) -> None:
    again = run(f"runs={made / 'runs.csv'}", f"report={tmp_path / 'again'}", out=tmp_path / "none")
    assert {path.name for path in made.iterdir()} == ALL
    for name in SAME:
        assert (again / name).read_bytes() == (made / name).read_bytes(), name


def gids(folder: Path, name: str = "accuracy_macs.svg") -> list[str]:
    return sorted(re.findall(r'<g id="arm: ([^"]+)">', (folder / name).read_text()))


def test_figure_has_one_line_per_arm(made: Path) -> None:
    assert gids(made) == ["none, l1", "none, random", "se, l1"]
    image = imread(made / "accuracy_macs.png")
    assert image.shape[1] == 960
    assert 0.02 < (image[..., :3].min(axis=2) < 0.7).mean() < 0.5  # ink


def test_further_choices_that_differ_make_further_lines_and_a_column(tmp_path: Path, run: Run) -> None:
    save(tmp_path, [*sweep(), record("se", "l1", 0.5, 0, 0.9, 0.9, schedule="iterative")])
    folder = run()
    assert gids(folder) == [
        "none, l1, one_shot", "none, random, one_shot", "se, l1, iterative", "se, l1, one_shot",
    ]  # fmt: skip
    assert pick(lines(folder), schedule="iterative")["accuracy (%)"] == "90.00"


def test_one_panel_per_data_set_and_net(tmp_path: Path, run: Run) -> None:
    nets = [record("se", "l1", 0.5, 0, 0.9, 0.9, net=net) for net in ("vgg16", "resnet18")]
    save(tmp_path, nets)
    folder = run("table=[]")
    assert gids(folder) == ["se, l1"] * 2
    width = struct.unpack(">I", (folder / "accuracy_macs.png").read_bytes()[16:20])[0]
    assert width == 2 * 960


class Mine:
    def __init__(self, *, name: str) -> None:
        self.name = name

    def __call__(self, summary: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> list[Path]:
        return [write(folder / self.name, f"{len(summary)} {len(runs)}".encode())]


def test_a_new_figure_is_one_class_and_one_yaml(tmp_path: Path, run: Run) -> None:
    save(tmp_path, sweep())
    (tmp_path / "conf" / "figure").mkdir(parents=True)
    (tmp_path / "conf" / "figure" / "mine.yaml").write_text(
        f"# @package figure.mine\n_target_: {__name__}.Mine\nname: mine.txt\n"
    )
    folder = run(f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "table=[markdown]", "figure=[mine]")
    assert {path.name for path in folder.iterdir()} == {"table.md", "mine.txt", "report.html"}
    assert (folder / "mine.txt").read_text() == "5 15"


def test_other_axes(tmp_path: Path, run: Run) -> None:
    save(tmp_path, sweep(seeds=1))
    only = ("figure.accuracy_macs.log_x=true", "table=[csv]", "quiet=true")
    folder = run("figure.accuracy_macs.x=params", *only)
    assert {path.name for path in folder.iterdir()} == {
        "runs.csv", "table.csv", "accuracy_params.png", "accuracy_params.svg", "report.html",
    }  # fmt: skip
    with pytest.raises(RsPruneError, match="choose from macs, params, latency_ms"):
        run("figure.accuracy_macs.x=flops", *only)


def test_the_same_records_give_the_same_bytes(tmp_path: Path, made: Path, run: Run) -> None:
    save(tmp_path, sweep()[::-1])
    again = run()
    for name in SAME:
        assert (again / name).read_bytes() == (made / name).read_bytes(), name


def test_one_seed_has_no_interval(tmp_path: Path, run: Run) -> None:
    save(tmp_path, sweep(seeds=1))
    folder = run("figure=[]")
    row = pick(lines(folder), attention="none", criterion="l1", keep="0.5")
    assert (row["accuracy (%)"], row["drop (points)"]) == ("90.00", "8.00")
    assert "±" not in "".join(cell for row in lines(folder) for cell in row.values())


def test_recalibrated_accuracy_is_shown_where_there_is_one(tmp_path: Path, run: Run) -> None:
    records = sweep()
    records[0]["accuracy"]["recalibrated"] = {"test": 0.5678, "val": 0.5}
    records[1]["accuracy"]["recalibrated"] = {"test": float("nan"), "val": None}
    save(tmp_path, records)
    rows = lines(run("figure=[]"))
    assert pick(rows, attention="none", criterion="l1", keep="0.5")["recalibrated (%)"] == "56.78"
    assert pick(rows, criterion="random")["recalibrated (%)"] == ""


def test_records_that_lack_nearly_everything(tmp_path: Path, run: Run) -> None:
    words = ("dataset", "net", "attention", "criterion", "keep", "seed")
    bare = record("se", "cap", 0.5, 0, 0, 0)
    bare = {"status": "finished", "choices": {word: bare["choices"][word] for word in words}}
    save(tmp_path, [*sweep(), bare])
    row = pick(lines(run()), criterion="cap")
    assert (row["seeds"], row["accuracy (%)"], row["MACs (M)"], row["latency (ms)"]) == ("0", "", "", "")


def test_the_screen(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, sweep())
    folder = run()
    out = capsys.readouterr().out
    assert "skipped 6: criterion=cap needs gates" in out
    assert "attention=none criterion=cap keep=0.25,0.5 seed=0,1,2" in out
    assert re.search(r"^none +random +0\.5 .* 60\.00\* ", out, re.MULTILINE)
    assert "dataset=eurosat_rgb, net=resnet_10, seeds=3" in out
    assert {line for line in out.splitlines() if line.startswith("/")} == {str(folder / name) for name in ALL}
    table = [line for line in out.splitlines() if not line.startswith("/")]
    assert max(len(line) for line in table) <= 100
    assert "\x1b" not in out


def test_quiet(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, sweep(seeds=1))
    assert (run("quiet=true", "figure=[]") / "table.md").exists()
    assert capsys.readouterr().out == ""


def test_a_table_of_nothing_prints_nothing(made: Path) -> None:
    runs = read(made / "runs.csv")
    console = Console(file=io.StringIO())
    print_table(console, runs[:0])
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    print_table(console, runs)
    assert "93.00" in console.file.getvalue()  # type: ignore[attr-defined]


def test_nothing_to_report(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RsPruneError, match=r"records: no finished run .* rs-prune run out=") as error:
        run()
    assert str(tmp_path) in str(error.value)
    save(tmp_path, [one for one in sweep() if one["status"] == "skipped"])
    with pytest.raises(RsPruneError, match="6 skipped"):
        run()
    assert "criterion=cap needs gates" in capsys.readouterr().out
    assert not (tmp_path / "report").exists()


def test_a_broken_record_is_named(tmp_path: Path, run: Run) -> None:
    save(tmp_path, sweep())
    (tmp_path / "records" / "torn.json").write_text('{"digest": "abc"')
    with pytest.raises(RsPruneError, match=r"torn\.json"):
        run()


def test_wandb_gets_table_and_figure_only_when_asked(tmp_path: Path, run: Run, sent: Path) -> None:
    save(tmp_path, sweep(seeds=1))
    run("quiet=true", "figure=[]")
    assert not list(tmp_path.rglob("*run-*"))
    folder = run("logger=wandb", "logger.offline=true", f"logger.save_dir={sent}", "quiet=true")
    media = [path for path in tmp_path.rglob("offline-run-*/files/media/**/*") if path.is_file()]
    names = sorted(path.name.rpartition("_")[0].rsplit("_", 1)[0] + path.suffix for path in media)
    assert names == ["accuracy_macs.png", "per_class.json", "report.html", "runs.json", "table.json"]
    assert next(path for path in media if path.suffix == ".html").read_text() == (folder / "report.html").read_text()
    table = json.loads(next(path for path in media if path.name.startswith("table")).read_text())
    assert ["none", "random", 0.6] in [
        [row[table["columns"].index(name)] for name in ("attention", "criterion", "accuracy")] for row in table["data"]
    ]


def test_a_document_that_fails_costs_no_other(tmp_path: Path, run: Run) -> None:
    save(tmp_path, sweep())
    with pytest.raises(RsPruneError, match=r"^table\.curves: cannot be made .* \(and 1 more fails\)$"):
        run(
            "figure.accuracy_macs.x=flops",
            "table=[markdown,latex,curves]",
            "table.curves.loss=abc",
        )
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"table.md", "table.tex", "report.html"} <= written


def test_the_page_says_the_words_that_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "my, records", sweep())
    words = ["report", "out=my\\, records", "table=[markdown]", "figure=[]", "-q"]
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0
    page = (tmp_path / "my, records" / "report" / "report.html").read_text()
    assert html.escape(shlex.join(["rs-prune", *words[:-1]])) in page.replace("&#39;", "&#x27;")


TABLES = sorted((Path(__file__).parents[1] / "experiments").glob("*/runs.csv"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_every_command_of_a_page_can_be_composed(path: Path) -> None:
    commands = made_of(read(path), [], "")["commands"]
    assert commands
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for command in commands:
            words = [word for word in shlex.split(command)[2:] if word != "-m"]
            compose("run", list(_first(tuple(words))))


def test_the_dense_loss_is_named_as_the_command_line_has_it() -> None:
    runs = read(TABLES[0])[:1].assign(variant="dense_loss=focal lr_steps=[0.5, 0.75] loss=focal")
    (command,) = made_of(runs, [], "")["commands"]
    assert {"loss@dense_loss=focal", "lr_steps=[0.5, 0.75]", "loss=focal"} <= set(shlex.split(command))


def test_the_time_of_a_dense_net_counts_once() -> None:
    times = [{"dense": 3600.5, "finetune": 600.0}, {"dense": 3600.5, "finetune": 1200.0}, {"dense": 1799.5}]
    records = [{"status": "finished", "times": known} for known in times]
    facts = dict(made_of(read(TABLES[0])[:1], records, "")["facts"])
    assert facts["time"] == ["2.00 h, all runs together, each dense net once"]
