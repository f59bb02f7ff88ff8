"""The picture of the website in the README, made again: `python -m tests.screenshot`. Needs Debian's chromium."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner
from PIL import Image
from playwright.sync_api import sync_playwright

from bench.cli import cli
from tests.worlds import ROOT

PICTURE = ROOT / "docs" / "website.png"
COLOURS = 64  # of the palette: a page of text needs no more


def main() -> None:
    """Build the site of the default plan, and photograph its first page."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("There is no chromium. Type: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        results = ROOT / "results" / "default-plan"
        CliRunner().invoke(cli, ["report", "--results", str(results), "--out", str(site)], catch_exceptions=False)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else []
            )
            page = browser.new_page(viewport={"width": 1120, "height": 620})
            page.goto((site / "index.html").as_uri())
            page.wait_for_selector("tbody tr")
            picture = page.screenshot()
            browser.close()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
