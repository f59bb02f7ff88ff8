"""Methods that misbehave, each in one way, and then pick the first images of each class as an honest one would.

None of them can harm a machine where nothing stops it: loops, forks and allocations have an end of their own.
"""

from __future__ import annotations

from pathlib import Path

from bench.artifacts.describe import describe
from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace
from bench.confinement.plugin_limits import Limits
from bench.plugins.registry import discover
from bench.stages.condense import condense
from bench.stages.teach import teach
from tests.worlds.plugins import write

SOURCE = '''
"""A method of a test."""

import os
import sys
import time

import numpy as np

{at_import}

def select(train, ipc, ctx):
    {call}
    return np.concatenate([train.class_indices(c)[:ipc] for c in range(train.num_classes)])
'''

# Name -> what it does before it picks.
CALLS = {
    "honest": "",
    "random_": "ctx.numpy('choice')",
    # It changes the process that it runs in.
    "patches_bytes": "import bench.stages.condense as s; s.image_bytes = lambda *_: 1",
    "patches_checks": "import bench.stages.method_call as s; s.check_counts = lambda *_, **__: 0; return np.arange(7)",
    "changes_dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "patches_torch": "import torch; torch.nn.functional.conv2d = lambda *a, **k: 1 / 0; ctx.features()",
    # It ends, or does not.
    "exits": "sys.exit(0)",
    "ends_process": "os._exit(0)",
    "segfaults": "os.kill(os.getpid(), 11)",
    "raises_base": "raise BaseException('\\x1b[31mred\\x1b[0m')",
    "interrupts": "raise KeyboardInterrupt",
    "says_much": "raise ValueError('x' * 50_000_000)",
    "cannot_say": "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "loops": "[time.sleep(0.1) for _ in range(600)]",
    "ignores_signals": "import signal; signal.signal(15, signal.SIG_IGN); [time.sleep(0.1) for _ in range(600)]",
    # It takes more than its share.
    "allocates": "kept = [np.ones(2**24) for _ in range(24)]; time.sleep(20)",
    "forks": "[os.fork() or os._exit(time.sleep(30) or 0) for _ in range(40)]",
    "catches_forks": (
        "\n    for _ in range(40):\n        try:\n            os.fork() or os._exit(time.sleep(30) or 0)\n"
        "        except OSError:\n            pass"
    ),
    "prints": "[print('x' * 2**20) for _ in range(40)]",
    # It leaves something behind.
    "leaves_daemon": (
        "import subprocess; daemon = subprocess.Popen(['sleep', '31.25'], start_new_session=True); "
        "open(os.environ['PIDS'], 'a').write(f'{daemon.pid} ')"
    ),
    "leaves_grandchild": (
        "\n    if os.fork() == 0:\n        os.setsid()\n        pid = os.fork()\n        if pid:\n"
        "            open(os.environ['PIDS'], 'a').write(f'{pid} ')\n            os._exit(0)\n"
        "        time.sleep(30)\n        os._exit(0)\n    os.wait()"
    ),
    # It speaks for itself to the harness.
    "writes_everywhere": (
        "\n    for descriptor in range(3, 12):\n        try:\n            os.write(descriptor, b'x' * 64)\n"
        "        except OSError:\n            pass"
    ),
    # It looks for the test split.
    "imports_dataset": "from protocols.datasets import digits; digits._splits()[1].read(np.arange(600))",
    "opens_file": (
        "import gzip, sklearn; path = os.path.join(os.path.dirname(sklearn.__file__), 'datasets/data/digits.csv.gz'); "
        "gzip.open(path).read()"
    ),
    "walks_frames": (
        "\n    frame = sys._getframe()\n    while frame is not None:\n"
        "        for value in list(frame.f_locals.values()):\n"
        "            assert type(value).__name__ not in ('Workspace', 'Data', 'Trial'), value\n"
        "        frame = frame.f_back"
    ),
    "searches_memory": (
        "import gc; found = [o for o in gc.get_objects() if type(o).__name__ in ('Workspace', 'ArraySource')]; "
        "assert all(len(o) == 1197 for o in found), found"
    ),
    "asks_context": "\n    try:\n        ctx._data.dataset.test()\n    except Exception:\n        pass",
    "loads_again": "ctx._data.spec.plugin.module.load(ctx.scratch).test()",
    "starts_program": ("import subprocess; subprocess.run([sys.executable, '-I', '-S', '-c', 'pass'], check=False)"),
    "writes_store": "open(os.path.join(ctx._store.root, 'condensed', 'mine'), 'w').write('x')",
    "writes_results": "open(os.path.join(os.environ['RESULTS'], 'more.jsonl'), 'w').write('x')",
    "writes_scratch": "(ctx.scratch / 'mine').write_text('x')",
}
AT_IMPORT = {
    "reads_at_import": "from sklearn.datasets import load_digits\nload_digits()\n",
    "exits_at_import": "sys.exit(0)\n",
}


def bad_plugin(folder: Path, name: str) -> Path:
    """The file of one of the methods above."""
    return write(folder / f"{name}.py", SOURCE.format(call=CALLS.get(name, ""), at_import=AT_IMPORT.get(name, "")))


class BadWorld:
    """A workspace with digits, its teacher, and methods of this module; each is run by `condense`."""

    def __init__(self, root: Path) -> None:
        self.root, self.results = root, root / "results"
        self.results.mkdir()
        files = [bad_plugin(root / "plugins", name) for name in (*CALLS, *AT_IMPORT)]
        self._registry = discover(files)
        self.ws = self.workspace()
        self.dataset: DatasetRef = describe(self.ws, "digits")
        self.teacher = teach(self.ws, "small-teacher-v1", self.dataset)

    def workspace(self, **limits: float) -> Workspace:
        """With limits of plugins' processes."""
        chosen = Limits(**{"seconds": 60.0, "processes": 16, **limits})
        return Workspace(self.root / "store", self._registry, limits=chosen, results=(self.results,))

    def condense(self, method: str, **limits: float) -> CondensedRef:
        return condense(self.workspace(**limits), method, self.dataset, self.teacher, 1, 0)
