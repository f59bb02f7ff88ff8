"""Compressors that approximate probabilities at a temperature instead of logits, and what is done with invalid ones."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from bench.errors import InfeasibleError
from bench.studies.label_sets.label_sources import PartOfSet
from methods._codec import bits, domain, labels
from methods._codec.container import pack, unpack
from tests.worlds.compressors import NAMES, PLENTY, context, encode, module, smallest

LOGITS = (3 * np.random.default_rng(0).standard_normal((4, 9, 17))).astype(np.float16)
NAMED = {"quant", "godec", "svd", "rsvd", "cur", "rpca", "pq", "vq"}


def test_every_compressor_that_offers_the_choice_is_tested_here_or_keeps_one_label():
    offered = {name for name in NAMES if "domain" in inspect.signature(module(name).encode).parameters}
    assert offered == NAMED | {"mean"}


CASES = [
    ("quant", PLENTY, {"bits": 2}),
    ("godec", 700, {}),
    ("svd", 700, {}),
    ("svd", 700, {"layout": "set", "factor": "int8"}),
    ("rsvd", 700, {}),
    ("cur", 900, {}),
    ("rpca", 600, {}),
    ("pq", 1200, {}),
    ("vq", 1200, {"steps": 20}),
]
every_case = pytest.mark.parametrize(("name", "budget", "options"), CASES)
PEAKED = (6 * np.random.default_rng(3).standard_normal((2, 8, 40))).astype(np.float16)


def parts(name: str, blob: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values as approximated, temperature and floor, counts: a blob without what the domain adds is one of logits."""
    container = unpack(blob, name)
    rest = {key: value for key, value in container.sections.items() if key not in ("T", "Z")}
    plain = module(name).decode(pack(name, container.shape, rest)).double().numpy()
    return plain, container.sections["T"].astype(np.float64), container.sections["Z"]


@every_case
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_probabilities_that_are_none_are_mended_by_the_rule_and_counted(name, budget, options, temperature):
    """A coarse code of peaked probabilities has values below zero and rows that do not sum to one."""
    blob = encode(name, PEAKED, budget, domain="probabilities", temperature=temperature, **options)
    assert len(blob) <= budget
    values, (told, floor), counts = parts(name, blob)
    decoded = module(name).decode(blob).double().numpy()
    assert told == temperature
    for image in range(2):
        for view in range(8):
            row = [max(value, floor) for value in values[image, view]]
            expected = [temperature * math.log(value / sum(row)) for value in row]
            np.testing.assert_allclose(decoded[image, view], expected, rtol=1e-5, atol=1e-5)
    off = sum(abs(sum(row) - 1) > domain.OFF for row in values.reshape(16, 40))
    assert module(name).invalid(blob) == tuple(counts) == ((values < 0).sum(), off)
    assert module(name).invalid(encode(name, PEAKED)) == (0, 0)


def test_the_cases_above_have_something_to_mend():
    counts = [module(n).invalid(encode(n, PEAKED, b, domain="probabilities", **options)) for n, b, options in CASES]
    assert sum(values > 5 for values, _ in counts) >= 4
    assert sum(rows > 0 for _, rows in counts) >= 5


@every_case
@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_the_floor_is_the_one_that_leaves_the_least_divergence(name, budget, options, temperature):
    blob = encode(name, PEAKED, budget, domain="probabilities", temperature=temperature, **options)
    values, (_, floor), _ = parts(name, blob)
    true = softmax(PEAKED.astype(np.float64) / temperature, 2)
    left = []
    for other in domain.FLOORS:
        raised = np.maximum(values, other)
        left.append(rel_entr(true, raised / raised.sum(2, keepdims=True)).sum(2).mean())
    assert left[int(np.argmin(np.abs(np.log(domain.FLOORS) - np.log(floor))))] <= min(left) * (1 + 1e-6) + 1e-12


def test_values_far_below_the_errors_of_a_coarse_code_get_a_high_floor_and_an_exact_code_a_low_one():
    coarse, fine = (encode("svd", PEAKED, budget, domain="probabilities") for budget in (700, PLENTY))
    assert parts("svd", coarse)[1][1] > 1e-4 > 1e-5 > parts("svd", fine)[1][1]


@pytest.mark.parametrize("name", sorted(NAMED))
def test_nothing_depends_on_how_much_is_worked_on_at_once(name, monkeypatch):
    whole = encode(name, PEAKED, 900 if name != "quant" else PLENTY, domain="probabilities")
    monkeypatch.setattr(domain, "_AT_ONCE", 1)
    monkeypatch.setattr(labels, "_CHUNK_VALUES", 1)
    assert encode(name, PEAKED, 900 if name != "quant" else PLENTY, domain="probabilities") == whole


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
        floored = np.maximum(best, float(stored["T"][1]))
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


@pytest.mark.parametrize("name", sorted(NAMED | {"mean"}))
def test_a_domain_or_a_temperature_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="domain: 'odds' is not one of logits, probabilities"):
        encode(name, LOGITS, domain="odds")
    for temperature in (0, -1, float("nan"), float("inf"), 1e-46, 1e39):
        with pytest.raises(ValueError, match=r"temperature: must be a number in 1e-06\.\.1e\+06, got"):
            encode(name, LOGITS, domain="probabilities", temperature=temperature)
    with pytest.raises(ValueError, match=r"logits have none\. Type domain=probabilities,temperature=4\.0"):
        encode(name, LOGITS, temperature=4.0)


@pytest.mark.parametrize("name", sorted(NAMED))
@pytest.mark.parametrize("temperature", [domain.COLDEST, domain.HOTTEST])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_any_temperature_and_scale_stay_finite(name, temperature, scale):
    logits = (np.random.default_rng(1).standard_normal((2, 5, 6)) * scale).astype(np.float32)
    blob = encode(name, logits, domain="probabilities", temperature=temperature)
    assert np.isfinite(module(name).decode(blob).numpy()).all()


@pytest.mark.parametrize(("name", "options"), [("pq", {}), ("vq", {"steps": 30})])
def test_what_is_shared_is_of_the_domain_too(name, options):
    """Fitted on the first of three shards, within the budget of all; of another domain it is refused."""
    rng = np.random.default_rng(5)
    low = rng.standard_normal((24, 30, 4)) @ rng.standard_normal((4, 16))
    logits = (3 * rng.standard_normal((24, 1, 16)) + low).astype(np.float16)
    chosen = {"domain": "probabilities", "temperature": 4.0} | options
    first = PartOfSet(torch.from_numpy(logits[:8]), torch.zeros(8, dtype=torch.int64), set_images=24)
    shared = module(name).fit(first, 9000, context(), **chosen)
    left = (9000 - len(shared)) // 3
    for start in (0, 8, 16):
        shard = logits[start : start + 8]
        blob = encode(name, shard, left, shared=shared, **chosen)
        assert len(blob) <= left
        whole = module(name).decode(blob, shared=shared)
        true = softmax(shard.astype(np.float64) / 4, 2)
        left_over, all_there_is = (rel_entr(true, q).mean() for q in (softmax(whole.double().numpy() / 4, 2), 1 / 16))
        assert left_over < 0.25 * all_there_is
        assert torch.equal(module(name).decode(blob, [7, 0, 7], shared=shared), whole[:, [7, 0, 7]])
        negative, off = module(name).invalid(blob)
        assert 0 <= negative <= shard.size
        assert 0 <= off <= 8 * 30
    with pytest.raises(ValueError, match="fitted on probabilities at T = 4, the labels are to be stored as logits"):
        encode(name, logits, left, shared=shared, **options)
    with pytest.raises(ValueError, match="at T = 4, the labels are to be stored as probabilities at T = 1"):
        encode(name, logits, left, shared=shared, **chosen | {"temperature": 1.0})
    of_logits = module(name).fit(first, 9000, context(), **options)
    with pytest.raises(ValueError, match="fitted on logits, the labels are to be stored as probabilities at T = 4"):
        encode(name, logits, left, shared=of_logits, **chosen)
    with pytest.raises(ValueError, match="domain: 'odds'"):
        module(name).fit(first, 9000, context(), domain="odds", **options)
