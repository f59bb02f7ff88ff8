"""Fuzzers of every reader: `python -m tests.fuzz --inputs N`. An input is a good one with bytes or values changed.

A reader may refuse it by the errors that it declares. Any other error is a fault; so is an input that takes longer than
a second or more than 1 GiB of memory, and one that ends the process.
"""

from __future__ import annotations

import os

# Arrow's own pool takes a gigabyte ahead of need, which the bound on memory would hold against the first reader of it.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
