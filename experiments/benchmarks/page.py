"""How long the HTML page of 500 generated records takes to open in Chromium, beside one of 20, in one run.

The seconds are those from the navigation until every curve is drawn, in a fresh tab, from a file: by the clock, and of
processor time over all processes of the browser, which other work on the machine hardly changes. The pages alternate.

    python experiments/benchmarks/page.py
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Browser, sync_playwright

from rs_prune.page.html import Html
from rs_prune.results import paper
from rs_prune.results.provenance import hardware
from rs_prune.results.records import runs
from rs_prune.results.stats import summarise

CLASSES = (
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop", "Residential",
    "River", "SeaLake",
)  # fmt: skip
ARMS = [
    ("none", "l1"), ("none", "random"), ("none", "fpgm"), ("none", "taylor"), ("none", "bn_scale"),
    ("se", "attention"), ("se", "cap"), ("se", "l1"), ("se", "random"), ("se", "correlation"),
]  # fmt: skip
REPEATS = 5


def generated(seeds: int = 5) -> list[dict[str, Any]]:
    """Ten arms at five budgets on one data set with two nets: 100 records per seed."""
    draw = random.Random(0)
    dense: dict[tuple[str, str, int], float] = defaultdict(lambda: 0.96 + 0.005 * draw.random())
    cells = itertools.product(("resnet_narrow", "resnet18"), ARMS, (0.7, 0.5, 0.3, 0.15, 0.1), range(seeds))
    return [_record(draw, dense[net, arm[0], seed], net, *arm, keep, seed) for net, arm, keep, seed in cells]


def _record(
    draw: random.Random, dense: float, net: str, attention: str, criterion: str, keep: float, seed: int
) -> dict[str, Any]:
    final = dense - 0.01 / keep * draw.uniform(0.2, 0.6)
    choices = {
        "dataset": "eurosat", "net": net, "attention": attention, "criterion": criterion, "granularity": "channels",
        "schedule": "one_shot", "scope": "local", "budget": "macs", "keep": keep, "seed": seed, "epochs": 20,
        "finetune_epochs": 6, "selection": "val",
    }  # fmt: skip
    return {
        "digest": f"{draw.getrandbits(64):016x}",
        "status": "finished",
        "choices": choices,
        "config": {"seed": seed, "batch_size": 128},
        "accuracy": {name: {"val": value, "test": value} for name, value in (("dense", dense), ("final", final))},
        "per_class": {
            "dense": dict.fromkeys(CLASSES, dense),
            "final": {name: final - draw.uniform(-0.02, 0.02) for name in CLASSES},
        },
        "cost": {
            "dense": {"params": 1_234_822, "macs": 22_551_040},
            "pruned": {"params": int(1_234_822 * keep), "macs": int(22_551_040 * keep)},
        },
        "latency": {"dense": {"median_ms": 3.0}, "pruned": {"median_ms": 3 * keep + draw.random()}},
        "checks": {"mask_error": 1e-7},
        "times": {"total": 900.0},
    }


def processor_time(browser: Browser) -> float:
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")
    return sum(float(process["cpuTime"]) for process in found["processInfo"])


def opening(browser: Browser, page: Path) -> tuple[float, float]:
    before = processor_time(browser)
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    started = time.perf_counter()
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-ready]", state="attached")
    seconds = time.perf_counter() - started
    used = processor_time(browser) - before
    tab.close()
    return seconds, used


def main() -> None:
    chromium = shutil.which("chromium")
    seconds: dict[str, list[float]] = {}
    used: dict[str, list[float]] = {}
    sizes: dict[str, float] = {}
    writing: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        pages: dict[str, Path] = {}
        for records in (generated(5), generated(1)[::5]):
            table = runs(records)
            name = str(len(records))
            summary = summarise(table)
            started = time.perf_counter()
            (pages[name],) = Html(name=f"{name}.html")(summary, table, Path(folder), records, paper.nothing(), "")
            writing[name] = time.perf_counter() - started
            sizes[name] = pages[name].stat().st_size / 1e6
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for repeat in range(REPEATS + 1):
            for name, page in pages.items():
                clock, processor = opening(browser, page)
                if repeat:  # the first round warms up
                    seconds.setdefault(name, []).append(clock)
                    used.setdefault(name, []).append(processor)
        version = browser.version
        browser.close()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "records": list(pages),
        "repeats": REPEATS,
        "median_s": medians,
        "max_s": {name: max(values) for name, values in seconds.items()},
        "median_processor_s": {name: statistics.median(values) for name, values in used.items()},
        "ratio": medians["500"] / medians["20"],
        "size_mb": sizes,
        "writing_s": writing,
        "chromium": version,
        "machine": hardware(torch.device("cpu")),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=1))
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
