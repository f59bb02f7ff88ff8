"""Gradient, Hessian and landscape of a loss, held to the dense Hessian of a tiny network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from bench.studies.probes.curvature import LossShape, cosine


def tiny() -> nn.Module:
    """41 parameters, batch norm among them; no ReLU, so that the Hessian is smooth."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)]
    network = nn.Sequential(*layers).double()
    network[1].running_mean.copy_(torch.tensor([0.1, -0.2]))
    return network.eval()


def task(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 1, 3, 3, generator=generator).double(), torch.arange(n) % 3


def dense(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(gradient, Hessian) by torch.func, from one loss over all images."""
    names = [name for name, _ in network.named_parameters()]
    shapes = [parameter.shape for parameter in network.parameters()]
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(functional_call(network, weights, images), labels)

    return torch.func.grad(loss)(flat), torch.func.hessian(loss)(flat)


@pytest.fixture(scope="module")
def world() -> tuple[LossShape, torch.Tensor, torch.Tensor]:
    network, (images, labels) = tiny(), task()
    return LossShape(network, images, labels, batch=5), *dense(network, images, labels)


def test_the_gradient_and_products_with_the_hessian_are_those_of_the_dense_ones(world):
    shape, gradient, hessian = world
    assert shape.size == len(gradient) == 41
    torch.testing.assert_close(shape.gradient(), gradient)
    vector = torch.randn(41, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(shape.times_hessian(vector), hessian @ vector)


def test_lanczos_finds_the_eigenvalues_of_the_dense_hessian(world):
    shape, _, hessian = world
    wanted = np.linalg.eigvalsh(hessian.numpy())
    few = shape.eigenvalues(12, torch.Generator().manual_seed(3))
    assert len(few) == 12
    assert few[-1] == pytest.approx(wanted[-1], rel=1e-3)
    assert wanted[0] - 1e-9 <= few[0] <= few[-1] <= wanted[-1] + 1e-9
    every = shape.eigenvalues(41, torch.Generator().manual_seed(3))
    strong = wanted[np.abs(wanted) > 1e-6]  # zeros are one eigenvalue to Lanczos, however many there are
    assert all(np.abs(every - value).min() < 1e-7 for value in strong)


def test_the_frobenius_norm_is_that_of_the_dense_hessian_within_its_error(world):
    shape, _, hessian = world
    norm = shape.frobenius(400, torch.Generator().manual_seed(4))
    assert abs(norm.value - float(hessian.norm())) < 3 * norm.error
    assert norm.error < 0.05 * norm.value
    assert math.isnan(shape.frobenius(1, torch.Generator().manual_seed(4)).error)


def test_the_landscape_is_the_loss_at_the_weights_plus_filter_normalised_directions(world):
    shape, _, _ = world
    network, (images, labels) = tiny(), task()
    plane = shape.landscape(5, 0.5, torch.Generator().manual_seed(5))
    assert plane.steps.tolist() == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert plane.losses[2, 2] == pytest.approx(shape.loss())
    assert shape.loss() == pytest.approx(float(F.cross_entropy(network(images), labels)))
    generator, moved = torch.Generator().manual_seed(5), tiny()
    directions = []
    for _ in range(2):
        own = []
        for weight in network.parameters():
            if weight.ndim < 2:
                own.append(torch.zeros_like(weight))
                continue
            drawn = torch.randn(weight.shape, dtype=weight.dtype, generator=generator)
            for row in range(len(weight)):
                drawn[row] *= weight[row].norm() / drawn[row].norm()
            own.append(drawn)
        directions.append(own)
    with torch.no_grad():
        for parameter, one, two in zip(moved.parameters(), *directions, strict=True):
            parameter += 0.25 * one - 0.5 * two
        assert plane.losses[3, 0] == pytest.approx(float(F.cross_entropy(moved(images), labels)))


def test_the_network_that_is_probed_stays_as_it_was():
    network, (images, labels) = tiny().float(), task()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shape = LossShape(network.requires_grad_(False), images, labels)
    shape.landscape(3, 1.0, torch.Generator().manual_seed(0))
    shape.gradient()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_cosine_of_gradients():
    one = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert cosine(one, torch.tensor([2.0, 2.0], dtype=torch.float64)) == pytest.approx(math.sqrt(0.5))
    assert math.isnan(cosine(one, torch.zeros(2, dtype=torch.float64)))
