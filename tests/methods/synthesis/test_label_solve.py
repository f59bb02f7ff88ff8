"""Labels that methods of this project hand in: solved for by kernel regression, or said by an early expert."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.synthesis import label_solve, random_soft
from methods.synthesis.label_solve import _tangent_kernel
from tests.worlds.fakes import digits, digits_context


def test_the_kernel_is_that_of_a_wide_network() -> None:
    """Inner products of gradients of a network with one hidden layer of 40,000 units, scaled by He's rule."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6))
    width = 40_000
    first, second = rng.normal(size=(6, width)) * np.sqrt(1 / 6), rng.normal(size=width) * np.sqrt(2 / width)
    before = x @ first
    after, slope = np.maximum(before, 0), before > 0
    # d f / d second = after sqrt(2 / width) and d f / d first = second slope x / sqrt(6), in weights of unit variance.
    of_second = 2 / width * after @ after.T
    of_first = (second * slope) @ (second * slope).T * (x @ x.T) / 6
    assert np.allclose(_tangent_kernel(x, x, 1), of_second + of_first, rtol=0.06, atol=0.06)


def test_the_labels_are_those_of_least_error_over_the_training_split() -> None:
    """As the paper writes it: the pseudo-inverse of K(T, X) (K(X, X) + r I)^-1, all of it in memory."""
    train, ctx = digits(), digits_context()
    made = label_solve.synthesize(train, 3, ctx, depth=2, ridge=1e-3)
    assert made.soft_labels is not None
    assert made.labels.bincount().tolist() == [3] * 10
    assert torch.equal(made.images, train.images(made.indices))
    x = ctx.normalise(made.images).flatten(1).double().numpy()
    everything = ctx.normalise(train.images(np.arange(len(train)))).flatten(1).double().numpy()
    own = _tangent_kernel(x, x, 2)
    mapping = _tangent_kernel(everything, x, 2) @ np.linalg.inv(own + 1e-3 * own.diagonal().mean() * np.eye(len(x)))
    targets = np.eye(10)[train.labels] - 0.1
    best = np.linalg.lstsq(mapping, targets, rcond=None)[0]
    error, least = (np.square(mapping @ y - targets).mean() for y in (made.soft_labels.double().numpy(), best))
    assert error == pytest.approx(least, rel=1e-4)
    plain = np.eye(10)[made.labels.numpy()] - 0.1
    assert error < 0.9 * np.square(mapping @ plain - targets).mean()


def test_an_early_experts_labels_are_the_logarithms_of_its_probabilities() -> None:
    train = digits()

    class Expert:
        """A context whose expert is sure of the class after one epoch, and of the next one after two."""

        def numpy(self, *name: str | int) -> np.random.Generator:
            return np.random.default_rng([ord(str(part)[0]) for part in name])

        def dynamics(self, epochs: int) -> np.ndarray:
            sure = np.zeros((epochs, len(train), 10), np.float16)
            for epoch in range(epochs):
                sure[epoch, np.arange(len(train)), (train.labels + epoch) % 10] = 1
            return sure

    made = random_soft.synthesize(train, 2, Expert(), epochs=2)  # type: ignore[arg-type]
    assert made.soft_labels is not None
    probabilities = made.soft_labels.softmax(dim=1)
    assert torch.equal(probabilities.argmax(dim=1), (made.labels + 1) % 10)
    assert bool(probabilities.amax(dim=1).gt(0.999).all())
    with pytest.raises(ValueError, match="epochs is 0"):
        random_soft.synthesize(train, 2, Expert(), epochs=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"ridge": 0.0}])
def test_a_kernel_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="depth must be at least 1 and ridge above 0"):
        label_solve.synthesize(digits(), 1, digits_context(), **wrong)  # type: ignore[arg-type]
