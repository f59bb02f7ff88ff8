"""Compressors that approximate probabilities at a temperature instead of logits, and what is done with invalid ones."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from scipy.special import softmax

from bench.errors import InfeasibleError
from methods._codec import bits, domain
from methods._codec.container import unpack
from tests._compressors import NAMES, PLENTY, encode, module, smallest

LOGITS = (3 * np.random.default_rng(0).standard_normal((4, 9, 17))).astype(np.float16)
NAMED = {"quant", "godec", "svd", "rsvd", "cur", "rpca"}


def test_every_compressor_that_offers_the_choice_is_tested_here_or_keeps_one_label():
    offered = {name for name in NAMES if "domain" in inspect.signature(module(name).encode).parameters}
    assert offered == NAMED | {"mean"}


@pytest.mark.parametrize(
    ("name", "budget", "options"),
    [
        ("quant", PLENTY, {"bits": 2}),
        ("godec", 700, {}),
        ("svd", 700, {}),
        ("svd", 700, {"layout": "set", "factor": "int8"}),
        ("rsvd", 700, {}),
        ("cur", 900, {}),
        ("rpca", 600, {}),
    ],
)
def test_probabilities_that_are_none_are_raised_to_the_floor_and_counted(name, budget, options):
    """A coarse code of peaked probabilities has values below zero or at zero: they are counted, and come back whole."""
    logits = (6 * np.random.default_rng(3).standard_normal((2, 8, 40))).astype(np.float16)
    blob = encode(name, logits, budget, domain="probabilities", **options)
    assert len(blob) <= budget
    decoded = module(name).decode(blob).double().numpy()
    assert softmax(decoded, 2).sum(2) == pytest.approx(1)
    counted, off = module(name).invalid(blob)
    raised = (decoded == decoded.min(2, keepdims=True)).sum()
    assert counted > (0 if name == "rpca" else 50)  # it stores the peaks by themselves
    assert 0 <= raised - counted <= 16  # a row that needed no floor has a least value too
    assert (np.exp(decoded) >= 0.3 * domain.FLOOR).all()
    assert np.abs(np.exp(decoded).sum(2) - 1).max() < 1e-5
    assert 0 <= off <= 16
    assert off or name == "cur"  # the mean row sums to one, rows less their mean to zero
    assert module(name).invalid(encode(name, logits)) == (0, 0)


@pytest.mark.parametrize("name", ["svd", "rsvd", "rpca", "godec"])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_low_rank_of_probabilities_is_the_best_there_is(name, temperature):
    """Beside numpy: what comes back is no farther from the probabilities than their SVD cut to the rank in the blob."""
    probabilities = softmax(LOGITS.astype(np.float64) / temperature, 2)
    blob = encode(name, LOGITS, 900, domain="probabilities", temperature=temperature)
    stored = unpack(blob, name).sections
    rank = bits.decode_uints(stored["r"], 4)
    found = softmax(module(name).decode(blob).double().numpy() / temperature, 2)
    u, s, v = np.linalg.svd(probabilities)
    for image in range(4):
        r = rank[image]
        best = (u[image][:, :r] * s[image][:r]) @ v[image][:r]
        floored = np.maximum(best, domain.FLOOR)
        floored /= floored.sum(1, keepdims=True)
        assert np.linalg.norm(found[image] - probabilities[image]) <= 1.1 * np.linalg.norm(
            floored - probabilities[image]
        )


@pytest.mark.parametrize("name", sorted(NAMED))
def test_the_smallest_size_of_probabilities_is_that_of_the_whole_blob(name):
    least = smallest(name, LOGITS, domain="probabilities")
    assert len(encode(name, LOGITS, least, domain="probabilities")) == least
    with pytest.raises(InfeasibleError):
        encode(name, LOGITS, least - 1, domain="probabilities")
    with pytest.raises(ValueError, match="domain: 'odds' is not one of logits, probabilities"):
        encode(name, LOGITS, domain="odds")
    with pytest.raises(ValueError, match="temperature: must be a number > 0, got 0"):
        encode(name, LOGITS, domain="probabilities", temperature=0)
