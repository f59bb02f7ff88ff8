"""A label set of 600 MB passes by in shards: made, encoded, decoded and compared within a bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds import ROOT

GIB = 2**30

# In a process of its own: the peak of this one is that of whatever ran before.
SCRIPT = """
import json, resource, sys
import numpy as np
import torch
from bench.views.parameters import Views
from bench.teachers.ensemble import Member
from bench.studies.label_sets.quality import qualities
from bench.studies.label_sets.label_sources import NetworkLabels
from bench.protocol.recipe import Augment
from bench.registry import discover
from bench.seeds import numpy_generator, torch_generator
from bench.plugins.spec import parse
from bench.artifacts.store import Store

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def labels(images, count):
    pixels = numpy_generator("memory", images).integers(0, 256, (images, 3, 16, 16), dtype=np.uint8)
    head = torch.nn.Linear(3 * 64, 1000)
    torch.nn.init.normal_(head.weight, std=0.2, generator=torch_generator("memory", "head"))
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), head).eval()
    augment = Augment(crop_scale=(0.4, 1.0), flip=0.5, mix="cutmix")
    views = Views(augment, images, 16, mirror=True, batch=images, seed=1, count=count)
    hard = torch.zeros(images, dtype=torch.int64)
    member = Member(model, (0.5,) * 3, (0.25,) * 3)
    return NetworkLabels("pictures", member, torch.from_numpy(pixels), hard, views, 1000, Store(sys.argv[1]))

asked = [(parse(discover(), "compressor", sys.argv[3]), "30x")]
qualities(labels(2, 4), asked)  # everything is imported, the allocators are warm
before = peak()
found = labels(int(sys.argv[2]), 300)
[quality] = qualities(found, asked).qualities
print(json.dumps({"above": peak() - before, "sizes": list(found.sizes), "status": quality.status, "kl20": quality.kl20,
                  "bytes": quality.bytes["total"],
                  "shared": quality.bytes["shared"], "seconds": found.label_seconds, "encode": quality.encode_ms,
                  "decode": quality.decode_ms}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("compressor", ["svd", "svd:domain=probabilities", "klt"])
def test_a_thousand_images_of_imagenet_size_take_at_most_one_and_a_half_gib(compressor: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "1000", compressor]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    print(found)
    assert found["status"] == "ok"
    assert len(found["sizes"]) >= 9
    assert sum(found["sizes"]) == 1000
    assert found["bytes"] <= 1000 * 300 * (2 * 1000 + 25) / 30
    assert 0 < found["kl20"] < 400
    assert found["above"] <= 1.5 * GIB, f"{found['above'] / GIB:.2f} GiB"
