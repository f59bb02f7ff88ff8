"""SRe2L, CDA and DWA on real digits: the images are what they shall be, and the statistics come closer."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn

from methods.synthesis import cda, dwa, sre2l
from tests.worlds.fakes import digits, digits_context

METHODS = pytest.mark.parametrize("method", [sre2l, cda, dwa], ids=lambda m: m.__name__.rpartition(".")[2])
OPTIONS = {dwa: {"steps": 3}}


def make(method: ModuleType, ipc: int = 2, replicate: int = 0, **options: float):
    return method.synthesize(digits(), ipc, digits_context(replicate=replicate), **OPTIONS.get(method, {}), **options)


@METHODS
def test_recovered_digits_are_taken_for_their_class(method):
    made = make(method, iterations=60)
    assert made.images.dtype == torch.uint8
    assert made.images.shape == (20, 1, 8, 8)
    assert made.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert made.provenance["teacher_top1"] >= 0.9


@METHODS
def test_the_matching_loss_falls_in_trend(method):
    whole = {"crop_scale": 1.0} if method is cda else {}  # small crops have other statistics than whole images
    falls = make(method, iterations=60, r_bn=0.05, **whole).provenance["matching_loss_by_tenth"]
    assert sum(falls[7:]) / 3 < 0.6 * sum(falls[:3]) / 3
    assert falls[-1] < falls[4] < falls[0]


@METHODS
def test_matching_pulls_the_statistics_towards_the_teachers(method):
    loose, tight = (make(method, 1, iterations=30, r_bn=r).provenance["matching_loss_by_tenth"][-1] for r in (0.0, 0.5))
    assert tight < 0.8 * loose


@METHODS
def test_the_same_replicate_repeats_bit_for_bit_and_another_one_differs(method):
    first, again, other = (make(method, replicate=r, iterations=4).images for r in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@METHODS
def test_wrong_arguments_and_teachers_are_refused(method):
    with pytest.raises(ValueError, match="r_bn is -1; it must be at least 0"):
        make(method, r_bn=-1)
    with pytest.raises(ValueError, match="ipc is 0"):
        make(method, 0)
    context = digits_context()
    context.teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match="no BatchNorm2d layer"):
        method.synthesize(digits(), 1, context, iterations=1)


def test_dwa_without_ascent_steps_of_any_length_is_another_image():
    still, moved = (make(dwa, 1, iterations=10, rho=rho).images for rho in (0.0, 0.5))
    assert not torch.equal(still, moved)


@pytest.mark.parametrize(("method", "options"), [(dwa, {}), (sre2l, {"init": "real"})], ids=["dwa", "sre2l:init=real"])
def test_the_start_is_real_images(method, options):
    made = make(method, iterations=1, lr=1e-6, **options).images
    known = {bytes(image.numpy().tobytes()) for image in digits().images(range(len(digits())))}
    assert all(image.numpy().tobytes() in known for image in made)


def test_sre2l_refuses_a_start_that_it_does_not_know():
    with pytest.raises(ValueError, match="init is 'rded'"):
        make(sre2l, init="rded")


def test_the_crop_of_cda_gets_smaller_so_that_it_parts_from_sre2l_after_the_first_step():
    shared = {"iterations": 12, "jitter": 0.0}
    plain, whole, cropped = make(sre2l, **shared), make(cda, crop_scale=1.0, **shared), make(cda, **shared)
    assert torch.equal(plain.images, whole.images)
    assert not torch.equal(plain.images, cropped.images)
