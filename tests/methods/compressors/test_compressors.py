"""Every compressor in methods/compressors: real bytes within the budget, and what comes back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import InfeasibleError
from methods._codec.container import CorruptBlobError
from tests.worlds.compressors import (
    FIXED,
    LAW,
    LOW_RANK,
    NAMES,
    comparable,
    degenerate,
    digits,
    encode,
    error,
    every,
    every_budgeted,
    keeps_probabilities,
    kept,
    module,
    noise,
    smallest,
)


def test_the_compressors_of_the_default_plan_are_here():
    assert {"none", "svd", "rsvd", "cur", "rpca", "lpld", "klt"} <= set(NAMES)


@every
@pytest.mark.parametrize("source", [noise, digits])
def test_what_comes_back_has_the_shape_of_what_went_in(name, options, source):
    logits = source()
    n, k, c = logits.shape
    blob = encode(name, logits, n * k * c, **options)
    decoded = module(name).decode(blob)
    assert isinstance(blob, bytes)
    assert decoded.dtype == torch.float32
    assert decoded.shape == (n, len(kept(name, blob, k)), c)
    assert torch.isfinite(decoded).all()
    if name not in FIXED and options.get("rest") != "minimum":
        assert error(name, blob, logits, **options) < (0.4 if name != "cur" else 0.6)


@every
def test_rows_have_the_same_bits_as_in_the_whole(name, options):
    logits = digits()
    blob = encode(name, logits, logits.size, **options)
    stored = kept(name, blob, logits.shape[1])
    whole = module(name).decode(blob)
    order = np.random.default_rng(0).permutation(len(stored))
    for some in (order[:1], order[:3], np.concatenate([order, order[:2]]), order[:0]):
        assert torch.equal(module(name).decode(blob, stored[some].tolist()), whole[:, some])


@every
def test_the_same_call_gives_the_same_bytes(name, options):
    assert encode(name, noise(), 1500, **options) == encode(name, noise(), 1500, **options)


@every
def test_float32_and_float16_of_the_same_values_give_the_same_labels(name, options):
    logits = noise()
    half = module(name).decode(encode(name, logits, 1500, **options))
    single = module(name).decode(encode(name, logits.astype(np.float32), 1500, **options))
    assert torch.equal(half, single)


@every_budgeted
@LAW
@given(extra=st.integers(0, 4000), seed=st.integers(0, 3))
def test_no_budget_is_exceeded(name, options, extra, seed):
    logits = noise(4, 9, 14, seed)
    budget = smallest(name, logits, **options) + extra
    assert len(encode(name, logits, budget, **options)) <= budget


@every_budgeted
def test_no_budget_is_exceeded_by_a_large_shard(name, options):
    """Widths of the header's integers grow with the shard; what is set aside for them must too."""
    logits = noise(300, 4, 30)
    first = smallest(name, logits, **options)
    for budget in (first + 1, first + 299, first + 5000, first + 20000):
        assert len(encode(name, logits, budget, **options)) <= budget


@every_budgeted
@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 1, 10), (5, 12, 20), (2, 40, 300), (400, 3, 5)])
def test_the_smallest_size_named_is_enough_and_one_byte_less_is_not(name, options, shape):
    logits = noise(*shape)
    size = smallest(name, logits, **options)
    assert len(encode(name, logits, size, **options)) == size
    with pytest.raises(InfeasibleError) as caught:
        encode(name, logits, size - 1, **options)
    assert caught.value.smallest_bytes == size


@every_budgeted
@pytest.mark.parametrize("source", [noise, digits])
def test_more_bytes_are_never_worse(name, options, source):
    """Up to the rounding of what is added: a component or a row in float16 or int8 carries noise of its own."""
    logits = source()
    first = smallest(name, logits, **options)
    errors = []
    for budget in np.geomspace(first, 2 * logits.size, 12).astype(int):
        blob = encode(name, logits, int(budget), **options)
        # Pruning keeps rows exactly; what a larger budget improves is how many there are.
        errors.append(
            -len(kept(name, blob, logits.shape[1])) if name == "lpld" else error(name, blob, logits, **options)
        )
    for before, after in itertools.pairwise(errors):
        assert after <= before * (1 + 1e-3) + 1e-6 if before > 0 else after <= before


@every_budgeted
def test_the_budget_is_used(name, options):
    """What stays unused is less than the next step would cost: a component, a row, or one of each and the core."""
    logits = noise(5, 30, 40)
    n, k, c = logits.shape
    step = {
        "svd": 2 * (k + c),
        "rsvd": 2 * (k + c),
        "cur": 2 * c + 4 * 12,
        "rpca": n * 8,
        "godec": n * 8,
        "lpld": 2 * n * c + 1,
        "topk": n * k * 4,
        "marginal_smoothing": n * k * 4,
        "marginal_renorm": n * k * 4,
    }
    step["svd"] = 2 * (n * k + c) if options.get("layout") == "set" else step["svd"]
    for budget in (2500, 4000):
        assert budget - len(encode(name, logits, budget, **options)) <= step.get(name, budget) + 8 + n


@every
@pytest.mark.parametrize("position", [0, 2, 5, 12, 60, -1])
def test_a_flipped_byte_is_an_error_and_not_a_label(name, options, position):
    blob = bytearray(encode(name, noise(), 2000, **options))
    blob[position % len(blob)] ^= 0x10
    with pytest.raises(CorruptBlobError):
        module(name).decode(bytes(blob))


@every
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_by_place(name, options, value):
    logits = noise().copy()
    logits[3, 2, 7] = value
    with pytest.raises(ValueError, match="image 3, row 2, column 7"):
        encode(name, logits, **options)


@every
def test_a_row_out_of_range_is_named(name, options):
    blob = encode(name, noise(), 2000, **options)
    for row in (-1, 12):
        with pytest.raises(ValueError, match=str(row)):
            module(name).decode(blob, [row])


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("svd", {"factor": "fp8"}),
        ("svd", {"layout": "row"}),
        ("svd", {"factor": "fp8", "layout": "set"}),
        ("rsvd", {"oversampling": -1}),
        ("cur", {"pick": "all"}),
        ("cur", {"energy": 0.0}),
        ("rpca", {"lambda_": -1.0}),
        ("rpca", {"entries": "all"}),
        ("lpld", {"order": "last"}),
        ("lpqld", {"pool": 0.0}),
        ("lpqld", {"k": 21}),
        ("lpqld", {"rest": "mean"}),
        ("lpqld", {"order": "last"}),
        ("topk", {"k": -1}),
        ("topk", {"rest": "zero"}),
        ("marginal_smoothing", {"k": 21}),
        ("marginal_smoothing", {"temperature": 0.0}),
        ("marginal_renorm", {"temperature": float("nan")}),
        ("smoothing", {"temperature": -1.0}),
        ("mean", {"domain": "odds"}),
        ("mean", {"temperature": 0.0}),
        ("quant", {"bits": 9}),
        ("quant", {"coder": "zip"}),
        ("quant", {"domain": "odds"}),
        ("quant", {"temperature": 0.0}),
        ("godec", {"rounds": 0}),
        ("vq", {"steps": -1}),
        ("godec", {"domain": "odds"}),
    ],
)
def test_an_option_out_of_range_is_named(name, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        encode(name, noise(), **bad)


@every
@pytest.mark.parametrize("case", degenerate())
def test_degenerate_labels_come_back(name, options, case):
    logits = degenerate()[case]
    blob = encode(name, logits, **options)
    decoded = module(name).decode(blob)
    stored = kept(name, blob, logits.shape[1])
    assert decoded.shape == (len(logits), len(stored), logits.shape[2])
    assert torch.isfinite(decoded).all()
    if name in FIXED:
        return  # what they keep has tests of its own
    if name == "cur" and options.get("domain") and case == "huge":
        pytest.skip("of eight one-hot rows six are kept: leverages of a leading subspace do not say which are alike")
    tolerance = 2e-2 if options.get("factor") == "int8" else 5e-3 if name == "quant" else 2e-3
    wide = comparable(logits, name, options)
    scale = max(np.abs(wide).max(), np.finfo(np.float32).tiny)
    gap = np.abs(comparable(decoded.numpy(), name, options) - wide[:, stored]).max()
    assert gap <= tolerance * scale


@every_budgeted
@pytest.mark.parametrize("case", ["zeros", "constant", "rows equal", "one-hot"])
def test_labels_of_rank_one_need_no_more_than_the_smallest_code(name, options, case):
    if name not in LOW_RANK | {"lpld"} or options.get("domain"):
        pytest.skip("something else than a higher rank is what more bytes buy")
    logits = degenerate()[case]
    blob = encode(name, logits, smallest(name, logits, **options), **options)
    if (options.get("layout") == "set" and case == "rows equal") or options.get("lambda_"):
        pytest.skip("three images with a row each are rank three; a light sparse part takes some of rank one")
    tolerance = 2e-2 if options.get("factor") == "int8" else 2e-3
    stored = kept(name, blob, logits.shape[1])
    np.testing.assert_allclose(module(name).decode(blob), logits.astype(np.float32)[:, stored], atol=tolerance * 3)


@every
@pytest.mark.parametrize("exponent", [-90, -10, 12, 90])
def test_scaling_the_labels_scales_what_comes_back(name, options, exponent):
    if keeps_probabilities(name, options):
        pytest.skip("probabilities are another matter at another scale")
    logits = noise(3, 8, 10).astype(np.float32)
    plain = module(name).decode(encode(name, logits, 800, **options))
    scaled = module(name).decode(encode(name, np.ldexp(logits, exponent), 800, **options))
    if plain.shape == scaled.shape:  # raw rows: an exponent may cost the budget a view
        torch.testing.assert_close(torch.ldexp(scaled, torch.tensor(-exponent)), plain, rtol=1e-3, atol=1e-5)
    else:
        assert name == "lpld"


def test_none_is_bit_exact_on_float16_and_costs_a_header():
    logits = noise()
    blob = encode("none", logits, 0)
    assert torch.equal(module("none").decode(blob), torch.from_numpy(logits).float())
    assert len(blob) < 2 * logits.size + 32


@pytest.mark.parametrize("source", [noise, digits])
def test_svd_is_as_good_as_numpys_at_the_rank_it_bought(source):
    logits = source().astype(np.float64)
    n, k, c = logits.shape
    for rank in (1, 3, 6):
        blob = encode("svd", logits.astype(np.float32), n * rank * 2 * (k + c) + 60)
        optimum = (np.linalg.svd(logits, compute_uv=False)[:, rank:] ** 2).sum()
        squared = ((module("svd").decode(blob).numpy() - logits) ** 2).sum()
        assert squared <= optimum + 1e-6 * (logits**2).sum()


def test_svd_spends_what_is_left_on_the_images_that_gain_most():
    logits = np.random.default_rng(0).standard_normal((4, 10, 10)).astype(np.float32)
    logits[2] *= 100
    rank_one = smallest("svd", logits)
    blob = encode("svd", logits, rank_one + 2 * 20 + 8)
    tail = (np.linalg.svd(logits.astype(np.float64), compute_uv=False) ** 2)[2, 2:].sum()
    assert ((module("svd").decode(blob)[2].numpy() - logits[2]) ** 2).sum() <= tail * 1.001


def test_svd_of_the_set_fits_where_one_rank_per_image_does_not():
    logits = digits()
    set_size = smallest("svd", logits, layout="set")
    assert set_size < 0.85 * smallest("svd", logits)
    matrix = logits.reshape(-1, 10).astype(np.float64)
    optimum = (np.linalg.svd(matrix, compute_uv=False)[1:] ** 2).sum() / (matrix**2).sum()
    found = error("svd", encode("svd", logits, set_size, layout="set"), logits)
    assert found == pytest.approx(optimum, abs=1e-5)


def test_rsvd_comes_close_to_svd():
    logits = digits()
    exact, random = (error(name, encode(name, logits, logits.size), logits) for name in ("svd", "rsvd"))
    assert exact <= random <= 1.1 * exact


@pytest.mark.parametrize("source", [noise, digits])
@pytest.mark.parametrize("pick", ["top", "sampled"])
def test_cur_is_never_worse_than_the_mean_label(source, pick):
    logits = source()
    wide = logits.astype(np.float64)
    mean = ((wide - wide.mean(1, keepdims=True)) ** 2).sum() / (wide**2).sum()
    for extra in (0, 1000, 3000):
        blob = encode("cur", logits, smallest("cur", logits) + extra, pick=pick)
        assert error("cur", blob, logits) <= mean * 1.001


def test_cur_keeps_true_columns_and_rows():
    """With as many picks as the rank, an exact low-rank matrix comes back."""
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((3, 15, 2)) @ rng.standard_normal((3, 2, 18))).astype(np.float32)
    blob = encode("cur", logits, smallest("cur", logits) + 3 * (2 * 2 * 33 + 4 * 8))
    assert error("cur", blob, logits) < 3e-5


def test_rpca_keeps_outliers_that_svd_smears():
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((3, 40, 1)) @ rng.standard_normal((3, 1, 60))).astype(np.float32)
    logits[rng.random(logits.shape) < 0.01] += 20
    budget = 3 * (2 * 100 + 200)
    assert error("rpca", encode("rpca", logits, budget), logits) < 1e-3
    assert error("svd", encode("svd", logits, budget), logits) > 0.1


def test_lpld_keeps_the_same_views_in_every_shard_and_more_of_them_with_more_bytes():
    logits = noise(4, 30, 10)
    first = module("lpld").rows(encode("lpld", logits[:2], 600))
    second = module("lpld").rows(encode("lpld", logits[2:], 600))
    more = module("lpld").rows(encode("lpld", logits[:2], 900))
    assert first.dtype == np.int64
    assert first.tolist() == sorted(second.tolist())
    assert set(first) < set(more)
    assert module("lpld").rows(encode("lpld", logits[:2], 600, seed=1)).tolist() != first.tolist()
    assert module("lpld").rows(encode("lpld", logits, 600, order="first")).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_lpld_names_a_view_that_was_pruned():
    blob = encode("lpld", noise(), 600, order="first")
    with pytest.raises(ValueError, match="view 11 was pruned"):
        module("lpld").decode(blob, [0, 11])
