"""Debian's Chromium over pages from the disk: what a page asked for, what it complained of, how it looks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
# Where a person looks, a missing browser is no failure, but it is said.
WITHOUT = "NO BROWSER: the pages of `report` are not looked at; type: apt-get install chromium"


@dataclass
class Watched:
    """A page, and what happened on it."""

    page: Any  # playwright.sync_api.Page
    complaints: list[str] = field(default_factory=list)  # of the console, and errors of scripts
    requests: list[str] = field(default_factory=list)
    _session: Any = None  # of the DevTools protocol, where work is counted

    def work(self) -> float:
        """Seconds that the page's thread has worked so far, whatever else the machine does; see `Browser.open`."""
        values = self._session.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in values if each["name"] == "TaskDuration"))

    @property
    def requests_elsewhere(self) -> list[str]:
        """Whatever was asked for that is no file of the disk."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]


class Browser:
    """One Chromium for all tests of a module."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    @contextmanager
    def open(self, file: Path, address: str = "", *, work: bool = False, **context: Any) -> Iterator[Watched]:
        """A page of its own, closed at the end. `work`: count the seconds that its thread works."""
        options = {"viewport": {"width": 1280, "height": 800}, "accept_downloads": True, **context}
        window = self._chromium.new_context(**options)
        watched = Watched(window.new_page())
        watched.page.set_default_timeout(60_000)  # for machines that do much else
        watched.page.on("console", lambda message: watched.complaints.append(message.text))
        watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        watched.page.on("request", lambda request: watched.requests.append(request.url))
        if work:
            watched._session = window.new_cdp_session(watched.page)
            watched._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        try:
            watched.page.goto(f"{file.as_uri()}{address}")
            yield watched
        finally:
            window.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(WITHOUT)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield Browser(chromium)
        chromium.close()
