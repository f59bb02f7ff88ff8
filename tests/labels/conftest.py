"""Images and their labels, made once for all tests of labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.worlds.fakes import digits
from tests.worlds.stored_labels import say, views_of


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return digits().images(np.arange(270))  # more than one batch of the teacher


@pytest.fixture(scope="session")
def logits(images: torch.Tensor) -> torch.Tensor:
    return say(images, views_of(len(images)), np.arange(len(images)))
