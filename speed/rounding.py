"""How far rounding alone moves results: `python -m speed.rounding NATIVE PORTABLE` writes the table that `verify`
reads.

Both folders hold the same trials, run by the same code on one machine, once with `--arithmetic native` and once with
`--arithmetic portable`: the same seeds under other instruction sets.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from bench.checks.verify.rounding import METRICS, TABLE, Spread, result, spread_of
from bench.records import files
from bench.records.files import Record

HEAD = """\
# How far apart the results of one seed lie under other instruction sets: root mean square over pairs, of accuracies
# and of the logarithms of losses. Measured by python -m speed.rounding on the trials of results/former-plan.toml.
"""


def main(folders: Sequence[str]) -> None:
    """Write the table of two folders, and print it."""
    native, portable = ({record.id: record for record in files.latest(files.load(each).records)} for each in folders)
    pairs: dict[tuple[str, str], list[tuple[Record, Record]]] = {}
    for name in native.keys() & portable.keys():
        record = native[name]
        if record.status == "ok" and record.made_by == portable[name].made_by:
            key = record.trial["protocol"], record.trial["dataset"].partition(":")[0]
            pairs.setdefault(key, []).append((record, portable[name]))
    one, other = (next(iter(each.values())).environment.get("instructions", "?") for each in (native, portable))
    lines = [HEAD, f'kinds = ["{one}", "{other}"]\n']
    for (protocol, dataset), found in sorted(pairs.items()):
        spread: Spread = spread_of((result(a), result(b)) for a, b in found)
        values = (
            f"{metric} = {math.sqrt(each / spread.pairs):.4g}"
            for metric, each in zip(METRICS, spread.squares, strict=True)
        )
        lines.append(f'[spread."{protocol}"."{dataset}"]\npairs = {spread.pairs}\n' + "\n".join(values) + "\n")
    TABLE.write_text("\n".join(lines), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:3])
