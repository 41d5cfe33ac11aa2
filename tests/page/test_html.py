"""The HTML page, in a real browser and as a file."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rs_prune.errors import RsPruneError
from rs_prune.page.html import Html
from rs_prune.results import paper as papers
from rs_prune.results.classes import table as per_class
from rs_prune.results.looks import Looks
from rs_prune.results.page.classes import heat_maps
from rs_prune.results.records import runs
from rs_prune.results.stats import summarise

ROOT = Path(__file__).parents[2]
CLASSES = {"Forest": 0.0, "River": -0.1}  # class -> its accuracy beside the mean
PAPER = """item,method,dataset,net,params,macs,accuracy,source,arm,keep
table1,CAP,eurosat,resnet18,1.00M,0.010G,92.20,"Table 1, row 4",l1,0.25
table1,L1,eurosat,resnet18,,9M,91.05 ± 0.3,"Table 1, row 5",dense,
table1,L1,ucmerced,resnet18,11.2 M,,,Table 1,cap,0.125
"""


def record(criterion: str = "l1", keep: float = 0.5, seed: int = 0, **words: Any) -> dict[str, Any]:
    choices = {
        "dataset": "eurosat", "net": "resnet18", "attention": "none", "criterion": criterion,
        "granularity": "channels", "schedule": "one_shot", "scope": "local", "budget": "macs", "keep": keep,
        "seed": seed, "epochs": 10, "finetune_epochs": 3, "selection": "val",
    } | words  # fmt: skip
    dense, final = 0.95, 0.95 - 0.04 / keep + 0.01 * seed - 0.05 * (criterion == "random")
    return {
        "digest": "-".join(map(str, choices.values())), "status": "finished", "choices": choices,
        "config": {"seed": seed, "batch_size": 128, "optimizer": {"lr": 0.1}},
        "accuracy": {"dense": {"test": dense, "val": dense}, "final": {"test": final, "val": final}},
        "per_class": {
            "dense": {name: dense + less / 2 for name, less in CLASSES.items()},
            "final": {name: final + less for name, less in CLASSES.items()},
        },
        "cost": {
            "dense": {"params": 2_000_000, "macs": 20_000_000},
            "pruned": {"params": int(2e6 * keep), "macs": int(2e7 * keep)},
        },
        "latency": {"pruned": {"median_ms": 4 * keep}},
        "versions": {"torch": "2.13", "timm": "1.0"}, "git": {"commit": "abc123", "dirty": True},
        "hardware": {"processor": "AMD EPYC", "threads": 1, "device": "cpu"},
        "created": "2026-01-0" + str(seed + 1), "times": {"finetune": 1800.0},
    }  # fmt: skip


def sweep(**words: Any) -> list[dict[str, Any]]:
    """Three arms, two budgets, two seeds on one data set and net; one more arm on another net; one skipped."""
    arms = [("none", "l1"), ("none", "random"), ("se", "l1")]
    found = [
        record(criterion, keep, seed, attention=attention, **words)
        for attention, criterion in arms
        for keep in (0.5, 0.25)
        for seed in (0, 1)
    ]
    skipped = {**record("cap", **words), "status": "skipped", "reason": "criterion=cap needs gates"}
    return [*found, record("l1", 0.5, 0, net="vgg16_bn", **words), skipped]


def written(folder: Path, records: list[dict[str, Any]], paper: pd.DataFrame | None = None) -> Path:
    table = runs(records)
    given = papers.nothing() if paper is None else paper
    command = "rs-prune report out=outputs"
    (path,) = Html()(summarise(table), table, folder, records, given, command)
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    (folder / "paper.csv").write_text(PAPER)
    return written(folder, sweep(), papers.read_paper(folder / "paper.csv"))


def test_curves_are_drawn_from_a_file_with_the_network_off(open_page: Any, page: Path) -> None:
    tab = open_page(page)
    assert tab.asked == [page.as_uri()]
    assert tab.count("figure") == 2
    assert tab.texts("figcaption") == ["resnet18 on eurosat", "vgg16_bn on eurosat"]
    bands, singles, dense, means, paper = 3, 3, 2, 3, 1
    assert len(tab.traces()) == bands + singles + dense + means + paper
    drawn = tab.page.locator("figure").first.locator(".scatterlayer .trace")
    assert drawn.count() == len(tab.traces())
    assert tab.page.locator("figure").first.locator(".point").count() >= 3 * 2 + 3 * 4 + 2
    lines, stars = tab.page.evaluate(
        "(({data, layout}) => [layout.shapes.map(shape => shape.line.dash), "
        "data.filter(trace => trace.name == 'dense').map(trace => trace.line.dash)])(document.querySelector('.plot'))"
    )
    assert lines == stars
    assert len(set(lines)) == 2
    shown = tab.page.evaluate("document.querySelector('.plot').data.find(trace => trace.name == 'l1').y")
    assert shown == pytest.approx([79.5, 87.5])  # means over two seeds, cheaper first
    assert tab.page.evaluate("document.querySelector('.plot').layout.xaxis.title.text").startswith("MACs of one image")


def test_a_click_on_a_filter_removes_traces_rows_and_legend(open_page: Any, page: Path) -> None:
    tab = open_page(page)
    before = tab.traces()
    assert [tab.count(f"{place} tbody tr") for place in ("#summary", "#runs", ".heat")] == [3 + 7, 13, 7]
    tab.page.get_by_role("checkbox", name="random", exact=True).uncheck()
    assert len(tab.traces()) == len(before) - 3
    assert not [name for name in tab.traces() if "random" in name]
    assert [tab.count(f"{place} tbody tr") for place in ("#summary", "#runs", ".heat")] == [3 + 5, 9, 5]
    assert tab.texts("#count") == ["9 of 13 runs shown"]
    assert tab.texts("#legend li") == ["dense", "l1", "dense", "l1"]
    tab.page.get_by_role("checkbox", name="vgg16_bn", exact=True).uncheck()
    assert tab.texts("figcaption") == ["resnet18 on eurosat"]
    tab.page.locator('[data-none="net"]').click()
    assert tab.count("figure") == tab.count("#runs tbody tr") == 0
    assert tab.texts("#count") == ["no run matches these filters"]
    tab.page.locator('[data-all="net"]').click()
    assert tab.count("#runs tbody tr") == 9


def test_a_filter_treats_the_dense_nets_of_table_and_curves_alike(open_page: Any, tmp_path: Path) -> None:
    longer = [record(criterion, epochs=20) for criterion in ("l1", "cap", "cap")]
    for rate, one in enumerate(longer):  # two variants of one arm, and one dense net of all three
        one["accuracy"]["dense"]["test"] = 0.97
        one["config"]["rate"] = rate
        one["digest"] += str(rate)
    tab = open_page(written(tmp_path, [*sweep(), *longer]))

    def dense_nets() -> list[int]:
        rows = tab.texts("#summary tbody tr")
        return [
            len([text for text in rows if text.split("\t")[2] == "dense" and text.startswith("resnet18")]),
            len([name for name in tab.traces() if name.startswith("dense")]),
            len([text for text in tab.texts("#legend li") if text.startswith("dense")]),
            tab.page.evaluate("document.querySelector('.plot').layout.shapes.length"),
        ]

    assert dense_nets() == [3] * 4
    for name, value, left in (("epochs", "20", 2), ("epochs", "10", 1), ("attention", "se", 2), ("variant", "", 3)):
        box = tab.page.locator(f'.filter input[name="{name}"][value="{value}"]')
        box.uncheck()
        assert dense_nets() == [left] * 4, (name, value)
        box.check()


def test_arms_of_one_label_are_lines_of_their_own(open_page: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Looks, "_label", lambda *_: "same")
    tab = open_page(written(tmp_path, sweep()))
    drawn = "document.querySelector('.plot').data.filter(trace => trace.error_y && trace.name == 'same')"
    assert len(set(tab.page.evaluate(f"{drawn}.map(trace => trace.x[0])"))) == 3
    assert len(tab.texts("#legend li")) > 3
    tab.page.get_by_role("checkbox", name="random", exact=True).uncheck()
    assert len(set(tab.page.evaluate(f"{drawn}.map(trace => trace.x[0])"))) == 2


def test_what_is_drawn_can_be_chosen(open_page: Any, page: Path) -> None:
    tab = open_page(page)
    for name, gone in (("95 % intervals", 3), ("single runs", 3), ("dense nets", 2), ("paper's points", 1)):
        before = len(tab.traces())
        tab.page.get_by_role("checkbox", name=name, exact=True).uncheck()
        assert len(tab.traces()) == before - gone, name
    assert len(tab.traces()) == 3
    x = "document.querySelector('.plot').data.find(trace => trace.name == 'l1').x"
    for axis, at in (("macs", [5, 10]), ("params", [0.5, 1]), ("latency_ms", [1, 2]), ("share", [25, 50])):
        tab.page.locator("#axis").select_option(axis)
        assert tab.page.evaluate(x) == pytest.approx(at)
    tab.page.get_by_role("checkbox", name="log scale", exact=True).check()
    assert tab.page.evaluate("document.querySelector('.plot').layout.xaxis.type") == "log"


def test_lines_are_fanned_out_evenly_about_their_cost_within_a_marker(open_page: Any, page: Path) -> None:
    tab = open_page(page)
    costs = "document.querySelector('.plot').data.filter(trace => trace.error_y && !trace.name.startsWith('dense'))"
    pixels = "(x => document.querySelector('.plot')._fullLayout.xaxis.d2p(x))"
    for scale in ("linear", "log"):
        first = tab.page.evaluate(f"{costs}.map(trace => trace.x[0])")
        places = tab.page.evaluate(f"{costs}.map(trace => {pixels}(trace.x[0]))")
        assert len(set(first)) == 3
        assert sum(first) / 3 == pytest.approx(5, rel=1e-3), scale
        assert 2 < max(places) - min(places) <= 4, scale
        tab.page.get_by_role("checkbox", name="log scale", exact=True).check()
    tab.page.get_by_role("checkbox", name="fan out", exact=True).uncheck()
    assert tab.page.evaluate(f"{costs}.map(trace => trace.x[0])") == [5, 5, 5]


def ticks(tab: Any) -> list[str]:
    found = tab.page.evaluate("[...document.querySelectorAll('.plot .xtick text')].map(text => text.textContent)")
    return [str(text) for text in found]


def test_a_logarithmic_axis_writes_its_numbers_out(open_page: Any, tmp_path: Path) -> None:
    tab = open_page(written(tmp_path, [record(keep=keep) for keep in (1.0, 0.5, 0.1, 0.05)]))
    tab.page.get_by_role("checkbox", name="log scale", exact=True).check()
    assert ticks(tab) == ["1", "2", "5", "10", "20"]
    tab = open_page(written(tmp_path, [record(keep=keep) for keep in (1.0, 0.5)]))
    tab.page.get_by_role("checkbox", name="log scale", exact=True).check()
    assert {"10", "20"} <= set(ticks(tab))


def test_intervals_of_two_seeds_leave_the_points_to_be_seen(open_page: Any, tmp_path: Path) -> None:
    records = sweep()
    for one, accuracy in zip(records, (0.30, 0.70), strict=False):  # an interval from -204 to 304 %
        one["accuracy"]["final"]["test"] = accuracy
    tab = open_page(written(tmp_path, records))

    def plot(what: str) -> Any:
        return tab.page.evaluate(f"(({{data, layout}}) => {what})(document.querySelector('.plot'))")

    mean, above, below = plot(
        "(({y, error_y}) => [y[1], error_y.array[1], error_y.arrayminus[1]])(data.find(({name}) => name == 'l1'))"
    )
    assert (mean, mean - below, mean + above) == (pytest.approx(50), pytest.approx(0), pytest.approx(100))
    band = plot("data.find(({name}) => name == 'l1, interval').y")
    assert (min(band), max(band)) == (0, 100)
    assert plot("layout.yaxis.range") == pytest.approx([0, 100.5])
    tab.page.get_by_role("checkbox", name="single runs", exact=True).uncheck()
    least, dense = 50, 95
    assert plot("layout.yaxis.range") == pytest.approx([least - (dense - least), 100.5])
    tab.page.get_by_role("checkbox", name="95 % intervals", exact=True).uncheck()
    air = 0.05 * (dense - least)
    assert plot("layout.yaxis.range") == pytest.approx([least - air, dense + air])


def test_a_point_says_which_run_it_is(open_page: Any, page: Path) -> None:
    tab = open_page(page)
    said = tab.page.evaluate("document.querySelector('.plot').data.find(trace => trace.name == 'l1, runs').text[0]")
    for part in (
        "criterion=l1",
        "seed=0, keep=0.25",
        "<b>79.00 %</b>",
        "5 M MACs (25.0 %)",
        "0.5 M parameters",
        "1 ms",
    ):
        assert part in said, part
    assert "digest eurosat-resnet18-none-l1" in said
    point = tab.page.locator("figure").first.locator(".trace .point").last
    point.hover(force=True)
    tab.page.wait_for_selector(".hovertext")
    assert "as printed" in tab.page.locator(".hovertext").text_content()


def test_tables_sort(open_page: Any, page: Path) -> None:
    tab = open_page(page)

    def column(table: str, name: str) -> list[str]:
        at = tab.page.evaluate(f"document.querySelector('#{table} [data-column={name}]').cellIndex") + 1
        return tab.texts(f"#{table} tbody td:nth-child({at})")

    def click(table: str, name: str) -> None:
        tab.page.locator(f"#{table} [data-column={name}] button").click()

    unsorted = column("summary", "drop")
    click("summary", "drop")
    known = [cell for cell in unsorted if cell]
    assert 0 < len(known) < len(unsorted)
    rising = sorted(known, key=lambda cell: float(cell.split()[0]))
    assert rising != known
    assert column("summary", "drop") == [*rising, *[""] * (len(unsorted) - len(known))]
    click("summary", "drop")
    falling = [float(cell.split()[0]) for cell in column("summary", "drop")[: len(known)]]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] > falling[-1]
    assert tab.page.locator("#summary [aria-sort]").get_attribute("aria-sort") == "descending"
    click("runs", "net")
    assert column("runs", "net") == ["resnet18"] * 12 + ["vgg16_bn"]
    click("paper", "macs_printed")
    assert column("paper", "macs_printed") == ["9M", "0.010G", ""]
    click("paper", "arm")
    assert column("paper", "arm") == ["cap", "dense", "l1"]
    click("paper", "keep")
    assert column("paper", "keep") == ["0.125", "0.25", ""]
    sides = {name: tab.page.locator(f"#paper [data-column={name}]").get_attribute("class") for name in ("arm", "keep")}
    assert sides == {"arm": "text", "keep": "number"}


def test_the_papers_numbers_are_kept_letter_by_letter(open_page: Any, page: Path) -> None:
    tab = open_page(page)
    assert tab.texts("#paper tbody tr")[0].split("\t") == [
        "table1", "CAP", "eurosat", "resnet18", "1.00M", "0.010G", "92.20", "Table 1, row 4", "l1", "0.25",
    ]  # fmt: skip
    note = tab.page.locator("#paper-title + div + p").inner_text()
    assert note.endswith("not run, which no plot shows: 1 of 3.")
    x, y = tab.page.evaluate("(({x, y}) => [x, y])(document.querySelector('.plot').data.at(-1))")
    assert (x, y) == (pytest.approx([9, 10]), pytest.approx([91.05, 92.20]))
    tab.page.locator("#axis").select_option("params")
    assert tab.page.evaluate("document.querySelector('.plot').data.at(-1).x") == [1]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("t,CAP,eurosat,resnet18,1.0X,,92,row", "line 2: params=1.0X must be a number such as"),
        ("t,CAP,eurosat,resnet18,,,0.92M,row", "line 2: accuracy=0.92M must be a percentage"),
        ("t,CAP,eurosat,resnet18,,,922,row", "line 2: accuracy=922 must be a percentage"),
        ("t,,eurosat,resnet18,,,92,", "line 2 says nothing for method, source"),
    ],
)
def test_a_broken_paper_csv_is_named(tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "paper.csv"
    path.write_text(f"{PAPER.splitlines()[0]}\n{row}\n")
    with pytest.raises(RsPruneError, match=rf"paper\.csv: {re.escape(told)}"):
        papers.read_paper(path)
    path.write_text("method,net\nL1,resnet18\n")
    with pytest.raises(RsPruneError, match="lacks the columns item, dataset, params"):
        papers.read_paper(path)
    with pytest.raises(RsPruneError, match=r"none\.csv: cannot be read"):
        papers.read_paper(tmp_path / "none.csv")


def test_the_heat_map_has_means_and_drops_of_classes(open_page: Any, page: Path) -> None:
    tab = open_page(page)
    assert tab.texts(".heat th.class") == ["all", "Forest", "River"]

    def l1_at_half() -> list[str]:
        rows = [text.split("\t") for text in tab.texts(".heat tbody tr")]
        (found,) = [row for row in rows if row[:4] == ["resnet18", "none", "l1", "0.5"]]
        return found[4:]

    assert l1_at_half() == ["87.5", "87.5", "77.5"]
    tab.page.locator("#kind").select_option("drop")
    assert l1_at_half() == ["7.5", "7.5", "12.5"]
    heats = tab.page.evaluate(
        "[...document.querySelectorAll('.heat .cell')].map(c => +c.style.getPropertyValue('--heat'))"
    )
    assert max(heats) == pytest.approx(0.75)
    assert len(set(heats)) > 3


def test_class_names_break_between_words_alone(open_page: Any, tmp_path: Path) -> None:
    records = [record(keep=keep) for keep in (0.5, 0.25)]
    for one in records:
        for part in ("dense", "final"):
            one["per_class"][part] |= {f"HerbaceousVegetation{number}": 0.9 for number in range(30)}
            one["per_class"][part]["Sparse residential area"] = 0.9
    tab = open_page(written(tmp_path, records))
    heights = tab.page.locator(".heat th.class button").evaluate_all(
        "all => Object.fromEntries(all.map(one => [one.textContent, one.getClientRects()[0].height]))"
    )
    assert heights["HerbaceousVegetation7"] == heights["all"]


def test_no_drop_is_a_negative_zero() -> None:
    same = record()
    same["per_class"]["final"] = {name: share + 0.0004 for name, share in same["per_class"]["dense"].items()}
    table = runs([same])
    (found,) = heat_maps(summarise(table), table, per_class([same]))
    assert [cell["drop"] for cell in found["rows"][0]["cells"][1:]] == ["0.0", "0.0"]


def test_a_net_with_closed_gates_has_no_drop_of_classes() -> None:
    closed = record()
    closed["accuracy"]["closed"] = closed["accuracy"].pop("dense")
    table = runs([closed])
    (found,) = heat_maps(summarise(table), table, per_class([closed]))
    assert [cell["drop"] for cell in found["rows"][0]["cells"]] == ["", "", ""]
    assert [cell["accuracy"] for cell in found["rows"][0]["cells"]] == ["87.0", "87.0", "77.0"]


def test_the_foot_says_how_it_was_made(open_page: Any, page: Path) -> None:
    tab = open_page(page)
    said = tab.page.locator("footer").inner_text()
    for part in (
        "rs-prune report out=outputs", "AMD EPYC, 1 thread, device cpu", "torch 2.13", "abc123 with changed files",
        "2026-01-01 to 2026-01-02", "0, 1", "6.50 h", "1: criterion=cap needs gates",
    ):  # fmt: skip
        assert part in said, part
    tab.page.get_by_text("Commands (4)").click()
    command = "rs-prune run -m dataset=eurosat model=resnet18 attention=none criterion=random granularity=channels"
    assert command in tab.page.locator("footer").inner_text()
    tab.page.get_by_text("Configuration that all runs share").click()
    assert tab.texts("footer details pre")[1].split() == ["batch_size=128", "optimizer.lr=0.1"]


EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>\"'&amp;{{7*7}}"


def test_names_are_text_wherever_they_stand(open_page: Any, tmp_path: Path) -> None:
    records = sweep(schedule=EVIL, dataset=EVIL)
    records += [record(EVIL, net=EVIL)]
    for one in records:
        one["per_class"]["final"][EVIL] = 0.5
        one["config"][EVIL] = EVIL
        one["hardware"]["processor"] = EVIL
    rows = [dict.fromkeys(papers.COLUMNS, EVIL) | {"params": "", "macs": "9M", "accuracy": "90", "net": "resnet18"}]
    path = written(tmp_path, records, pd.DataFrame(rows))
    assert "<script>window" not in path.read_text()
    tab = open_page(path)
    assert tab.page.evaluate("window.hacked") is None
    assert tab.page.locator("img").count() == 0
    assert tab.texts("h1")[0] == f"resnet18, vgg16_bn, {EVIL} on {EVIL}, eurosat"
    texts = tab.page.evaluate("document.querySelector('.plot').data.flatMap(trace => trace.text ?? [])")
    tab.page.locator("figure").first.locator(".trace .point").last.hover(force=True)
    tab.page.wait_for_selector(".hovertext")
    assert EVIL in tab.page.locator(".hovertext").text_content()
    assert "schedule=&lt;/script&gt;&lt;script&gt;" in "".join(texts)
    assert "<script>" not in "".join(texts)
    tab.page.locator(".filter input").last.uncheck()
    assert tab.page.evaluate("window.hacked") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_can_read_it(open_page: Any, page: Path, scheme: str) -> None:
    tab = open_page(page, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, color_scheme=scheme)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    ink, paper = tab.page.evaluate(
        "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    assert (sum(map(int, re.findall(r"\d+", ink))) > sum(map(int, re.findall(r"\d+", paper)))) == (scheme == "dark")
    tick = tab.page.evaluate("getComputedStyle(document.querySelector('.plot .ytick text')).fill")
    assert tick == ink


def test_the_buttons_of_a_plot_stand_on_the_paper(open_page: Any, page: Path) -> None:
    tab = open_page(page)
    tab.page.locator(".plot").first.hover()
    behind = tab.page.evaluate(
        "[...document.querySelectorAll('.modebar, .modebar-group')].map(one => getComputedStyle(one).backgroundColor)"
    )
    assert set(behind) == {"rgba(0, 0, 0, 0)"}


def test_without_records_the_page_says_what_is_missing(open_page: Any, tmp_path: Path) -> None:
    table = runs(sweep())
    (path,) = Html(name="mine.html")(summarise(table), table, tmp_path, [], papers.nothing(), "rs-prune report")
    tab = open_page(path)
    assert tab.count(".heat") == tab.count("#paper") == 0
    assert "Made from a table of runs, which holds no machine" in tab.page.locator("footer").inner_text()
    assert len(tab.traces()) == 11


def test_records_that_lack_nearly_everything(open_page: Any, tmp_path: Path) -> None:
    words = ("dataset", "net", "attention", "criterion", "keep", "seed")
    bare = {"status": "finished", "choices": {word: record("cap")["choices"][word] for word in words}}
    tab = open_page(written(tmp_path, [*sweep(), bare]))
    assert tab.count("#runs tbody tr") == 14
    assert open_page(written(tmp_path / "alone", [bare])).count("figure") == 1


def test_500_records_make_a_page_that_opens_and_is_small(open_page: Any, tmp_path: Path) -> None:
    records = runpy.run_path(str(ROOT / "experiments" / "benchmarks" / "page.py"))["generated"]()
    assert len(records) == 500
    path = written(tmp_path, records)
    assert path.stat().st_size < 10e6
    tab = open_page(path)
    assert tab.texts("#count") == ["500 of 500 runs shown"]
    assert len(tab.traces()) == 10 + 10 + 2


def test_the_same_records_give_the_same_bytes(tmp_path: Path, page: Path) -> None:
    (tmp_path / "paper.csv").write_text(PAPER)
    again = written(tmp_path, sweep()[::-1], papers.read_paper(tmp_path / "paper.csv"))
    assert again.read_bytes() == page.read_bytes()
    data = re.search(r'id="data">(.*?)</script>', again.read_text())
    assert data
    assert [len(panel["arms"]) for panel in json.loads(data[1])["panels"]] == [3, 1]


def test_plotly_is_the_file_that_its_readme_names() -> None:
    folder = ROOT / "rs_prune" / "results" / "page" / "plotly"
    checksum = hashlib.sha256((folder / "plotly-basic.min.js").read_bytes()).hexdigest()
    assert checksum in (folder / "README.md").read_text()
