"""Losses: values and gradients are torch's own, and the log says what the definition says."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.protocol.recipe import Augment, Loss, Optimizer
from bench.training.losses import Target, batch_loss, scale, soft_target
from tests.worlds.lessons import CLASSES, N, feed, network, online, run, soft, stored

LOSSES = [
    Loss(name="kl"),
    Loss(name="kl", temperature=20),
    Loss(name="kl", temperature=4, times_t_squared=True),
    Loss(name="kl", temperature=4, times_t_squared=True, hard_weight=0.1),
    Loss(name="soft-ce", temperature=10),
    Loss(name="soft-ce", temperature=10, times_t_squared=True, hard_weight=0.5),
    Loss(name="mse"),
    Loss(name="mse", hard_weight=0.025),
]
TEACHERS = {
    "ordinary": lambda logits: logits,
    "certain": lambda logits: 200 * F.one_hot(logits.argmax(1), logits.shape[1]).float(),
    "undecided": torch.zeros_like,
}


def reference(student: torch.Tensor, teacher: torch.Tensor, classes: torch.Tensor, loss: Loss) -> torch.Tensor:
    """The definition in torch's words."""
    t = loss.temperature
    logs, p = F.log_softmax(student / t, dim=1), F.softmax(teacher / t, dim=1)
    if loss.name == "mse":
        value = F.mse_loss(student, teacher)
    elif loss.name == "kl":
        value = F.kl_div(logs, p, reduction="batchmean")
    else:
        value = -(p * logs).sum(dim=1).mean()
    if loss.times_t_squared:
        value = value * t * t
    return value + loss.hard_weight * F.cross_entropy(student, classes)


def ours(student: torch.Tensor, teacher: torch.Tensor, classes: torch.Tensor, loss: Loss) -> torch.Tensor:
    """The batch loss, with the offset of kl added that the loop adds per epoch."""
    soft_part, entropies = soft_target(teacher, loss)
    target = Target(classes, **{"logits" if loss.name == "mse" else "probabilities": soft_part})
    value = batch_loss(student, target, loss)
    return value if entropies is None else value + scale(loss) * entropies.mean()


@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_value_and_gradient_are_torchs_own(loss: Loss, teacher: str):
    generator = torch.Generator().manual_seed(0)
    for n, c in ((1, 2), (7, 3), (50, 100)):
        student = 5 * torch.randn(n, c, generator=generator)
        answers = TEACHERS[teacher](5 * torch.randn(n, c, generator=generator))
        classes = torch.randint(c, (n,), generator=generator)
        pair = []
        for function in (ours, reference):
            logits = student.clone().requires_grad_()
            value = function(logits, answers, classes, loss)
            value.backward()
            pair.append((value.detach(), logits.grad))
        # One factor T^2 magnifies the rounding of the difference of two cross-entropies.
        torch.testing.assert_close(pair[0][0], pair[1][0], rtol=1e-4, atol=1e-5 * scale(loss))
        torch.testing.assert_close(pair[0][1], pair[1][1], rtol=1e-4, atol=1e-6)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 20), c=st.integers(2, 12))
def test_mixed_class_labels_cost_what_mixed_one_hot_labels_cost(seed: int, n: int, c: int):
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(n, c, generator=generator)).requires_grad_()
    own, other = torch.randint(c, (2, n), generator=generator)
    lam = torch.rand(n, generator=generator)
    mixed = lam[:, None] * F.one_hot(own, c) + (1 - lam[:, None]) * F.one_hot(other, c)
    value, wanted = batch_loss(logits, Target(own, other, lam), Loss()), F.cross_entropy(logits, mixed)
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(value, logits)[0], torch.autograd.grad(wanted, logits)[0], rtol=1e-4, atol=1e-6
    )


def test_plain_class_labels_are_torchs_cross_entropy():
    logits, classes = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 4
    assert torch.equal(batch_loss(logits, Target(classes), Loss()), F.cross_entropy(logits, classes))


def test_a_part_of_a_target_is_the_part_of_every_field():
    classes, values = torch.arange(6), torch.arange(12.0).view(6, 2)
    part = Target(classes, classes + 1, classes / 6, values, -values)[2:4]
    assert part.classes.tolist() == [2, 3]
    assert part.others.tolist() == [3, 4]
    assert part.lam.tolist() == pytest.approx([2 / 6, 3 / 6])
    assert torch.equal(part.probabilities, values[2:4])
    assert torch.equal(part.logits, -values[2:4])
    assert Target(classes)[:2].probabilities is None


def silent() -> nn.Module:
    """A student that says 0 to everything."""
    student = network()
    nn.init.zeros_(student[-1].weight)
    nn.init.zeros_(student[-1].bias)
    return student


@pytest.mark.trains
@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (Loss(name="kl", temperature=4), 0.0),
        (Loss(name="kl", temperature=4, times_t_squared=True), 0.0),
        (Loss(name="soft-ce", temperature=4), math.log(CLASSES)),
        (Loss(name="soft-ce", temperature=4, times_t_squared=True), 16 * math.log(CLASSES)),
        (Loss(name="mse"), 0.0),
        (Loss(name="kl", hard_weight=0.5), 0.5 * math.log(CLASSES)),
        (Loss(name="mse", hard_weight=0.1), 0.1 * math.log(CLASSES)),
    ],
    ids=str,
)
def test_the_log_of_a_student_that_says_what_the_teacher_says(loss: Loss, expected: float):
    """The divergence itself is logged, not the cross-entropy that gives the gradient; soft-ce keeps the entropy."""
    reader = stored(1, augment=Augment())
    reader.logits = torch.zeros(N, 1, CLASSES)
    still = Optimizer(lr=1e-9)
    log = run(silent(), soft(2, Augment(), views=1, loss=loss, optimizer=still), reader=reader)
    assert log.losses == pytest.approx([expected] * 2, abs=2e-5)
    log = run(silent(), online(2, loss=loss, optimizer=still), teacher=lambda x: torch.zeros(len(x), CLASSES))
    assert log.losses == pytest.approx([expected] * 2, abs=2e-5)


@pytest.mark.trains
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_the_log_is_the_mean_over_images_of_the_definition(loss: Loss):
    """Stored labels, batches of unequal size, a student that stays as it is."""
    recipe = soft(2, loss=loss, optimizer=Optimizer(name="sgd", lr=1e-12))
    student, reader = network(norm=False), stored()
    log = run(student, recipe, reader=reader)
    plain = feed(soft(2, loss=Loss(name="mse")), stored())  # the same batches, with the teacher's logits
    for epoch, logged in enumerate(log.losses):
        total = 0.0
        for x, target in plain.epoch(epoch):
            value = reference(student(x), target.logits, target.classes, loss)
            total += value.item() * len(x)
        assert logged == pytest.approx(total / N, rel=1e-4, abs=1e-5)


def test_a_target_is_cut_as_its_slices_are():
    full = Target(torch.arange(7), torch.arange(7) + 10, torch.rand(7), torch.rand(7, 3), torch.rand(7, 3))
    for target in (full, Target(torch.arange(7)), Target(torch.arange(7), logits=torch.rand(7, 3))):
        for own, part in zip(target.split([3, 1, 3]), (slice(0, 3), slice(3, 4), slice(4, 7)), strict=True):
            for name, value in vars(target[part]).items():
                other = getattr(own, name)
                assert (other is value) if value is None else torch.equal(other, value)
