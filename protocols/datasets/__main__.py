"""Prints the digests of data sets beside the released ones: `python -m protocols.datasets [--write]`.

`--write` releases them: it rewrites digests.json. Without it, a difference ends with exit code 1. The pixels of
`glyphs` come from Pillow's FreeType and matplotlib's fonts, so their versions are written as well.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.errors import UserError
from protocols.datasets._arrays import DIGESTS, atomic_path, read_digests

RELEASED: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("digits", {}),
    "mnist5k": ("mnist5k", {}),
    "glyphs:classes=100": ("glyphs", {"classes": 100}),
    "glyphs:classes=1000": ("glyphs", {"classes": 1000}),
    "fashion-mnist": ("fashion_mnist", {}),
}


def main() -> int:
    """Exit code 0 when every digest is the released one, or was written."""
    parser = argparse.ArgumentParser(prog="python -m protocols.datasets", description=__doc__)
    parser.add_argument("--write", action="store_true", help="release the digests: rewrite digests.json")
    parser.add_argument("--root", type=Path, help="cache folder for drawn images (default: a temporary one)")
    parser.add_argument("--only", action="append", choices=sorted(RELEASED), help="one data set (repeatable)")
    options = parser.parse_args()

    released = read_digests() if DIGESTS.exists() else {"datasets": {}}
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dataset_id in options.only or RELEASED:
            name, params = RELEASED[dataset_id]
            module = importlib.import_module(f"protocols.datasets.{name}")
            try:
                dataset = module.load(options.root or Path(folder), **params)
            except UserError as error:  # its files are not on this machine
                print(f"{dataset_id:20} not compared: {error}")
                continue
            measured[dataset_id] = {
                split: {"count": len(source), "sha256": source.digest()}
                for split, source in (("train", dataset.train()), ("test", dataset.test()))
            }
            same = measured[dataset_id] == released["datasets"].get(dataset_id)
            for split, values in measured[dataset_id].items():
                print(f"{dataset_id:20} {split:5} {values['count']:7,} {values['sha256']} {'' if same else 'DIFFERS'}")

    if options.write:
        content = {"drawn_with": drawn_with(), "datasets": {**released["datasets"], **measured}}
        with atomic_path(DIGESTS) as path:
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return 0
    different = any(values != released["datasets"].get(dataset_id) for dataset_id, values in measured.items())
    if different and released.get("drawn_with") != drawn_with():
        print(f"released with {released.get('drawn_with')}, this is {drawn_with()}")
    return int(different)


def drawn_with() -> dict[str, str]:
    """Versions of what the pixels of `glyphs` depend on."""
    from PIL import features

    return {
        "freetype": str(features.version("freetype2")),
        "matplotlib": version("matplotlib"),
        "pillow": version("pillow"),
    }


if __name__ == "__main__":
    sys.exit(main())
