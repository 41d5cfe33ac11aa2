"""A real browser. Without one the tests that need it are skipped; under RS_PRUNE_CI=1 that is an error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no browser here: install one of {', '.join(NAMES)} (apt-get install chromium)"
        (pytest.fail if os.environ.get("RS_PRUNE_CI") == "1" else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Tab:
    """An open page, what it said on the console, and what it asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def count(self, selector: str) -> int:
        return int(self.page.locator(f"{selector}:visible").count())

    def texts(self, selector: str) -> list[str]:
        return [str(text).strip() for text in self.page.locator(f"{selector}:visible").all_inner_texts()]

    def traces(self) -> list[str]:
        """Names of what the first panel draws."""
        return list(self.page.evaluate("document.querySelector('.plot').data.map(trace => trace.name)"))


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Opens a file with the network off, waits for its curves, and demands a silent console."""
    tabs = []

    def open_(path: Path, **options: Any) -> Tab:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_offline(True)
        tab = Tab(context.new_page())
        tab.page.on("console", lambda message: tab.said.append(message.text))
        tab.page.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.page.on("request", lambda request: tab.asked.append(request.url))
        tab.page.goto(path.as_uri())
        tab.page.wait_for_selector("html[data-ready]", state="attached")
        tabs.append(tab)
        return tab

    yield open_
    for tab in tabs:
        tab.page.context.close()
        assert tab.said == []
