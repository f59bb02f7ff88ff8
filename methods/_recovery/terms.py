"""Terms that G-VBSM and EDC add to the matching of statistics: images that differ, and images on flat ground."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from methods._recovery.moments import to_channels_last
from methods._recovery.several import Step, weighted_distance

_POOLED = 32  # pixels: the side that images are pooled (or repeated) to before they are compared


def densification(images: torch.Tensor, labels: torch.Tensor, tau: float = 4.0) -> torch.Tensor:
    """G-VBSM's data densification, summed over the classes of a batch: low where the images of a class differ.

    Of the eigenvalues l of a class's Gram matrix (images pooled to 32 x 32): KL(softmax(l / tau) || softmax(l)), where
    the first is taken as constant: the spectrum is drawn towards a flatter one. The eigenvalues are not scaled, as in
    the code. Of normalised images they mostly lie so far apart that both distributions are one-hot, and term and
    gradient 0 in float32; the term acts on images that are almost equally strong in all directions.

    Args:
        images: normalised [n, c, s, s].
        labels: int64 [n].
        tau: temperature of the flatter spectrum.
    """
    flat = F.adaptive_avg_pool2d(images, _POOLED).flatten(1)
    total = flat.new_zeros(())
    for label in labels.unique():
        own = flat[labels == label]
        values = torch.linalg.eigvalsh(own @ own.T)
        total = total + F.kl_div(values.log_softmax(dim=0), (values / tau).softmax(dim=0).detach(), reduction="sum")
    return total


class Flatness:
    """EDC's flatness term: the network shall say of the images what it says of their moving average.

    KL(softmax(average / T) || softmax(images / T)), mean over the images, both in the same crop: the order of the
    authors' code. Their equation 7 prints the other one, `reverse`. The average starts at the images' own start and
    takes in each iterate after its use. In the published code the term is set to 0 or off by default, the average is
    the same tensor as the images until its first update, and the divergence is divided by the number of classes as
    well.

    Args:
        start: normalised [n, c, s, s].
        rate: share of the average that every step keeps.
        temperature: T.
        reverse: KL(softmax(images / T) || softmax(average / T)), as equation 7 prints it.
    """

    def __init__(self, start: torch.Tensor, rate: float, temperature: float = 4.0, *, reverse: bool = False) -> None:
        self._average, self._rate, self._temperature, self._reverse = start.clone(), rate, temperature, reverse

    def __call__(self, step: Step) -> torch.Tensor:
        """The unweighted term, a scalar; updates the average."""
        with torch.no_grad():
            wanted = step.network(to_channels_last(step.jitter(self._average)))
            self._average.lerp_(step.images, 1 - self._rate)
        images, average = step.logits / self._temperature, wanted / self._temperature
        if self._reverse:
            images, average = average, images
        return F.kl_div(images.log_softmax(dim=1), average.softmax(dim=1), reduction="batchmean")


class FlatStatistics:
    """EDC's first flatness term, L_FR of Table 4: the statistics of the images shall be those of their moving average.

    The weighted sum over layers of the norms of the differences of means and variances, both in the same crop; a layer
    that a step leaves out is left out here too. The average runs as in `Flatness`.

    Args:
        start: normalised [n, c, s, s].
        rate: share of the average that every step keeps.
    """

    def __init__(self, start: torch.Tensor, rate: float) -> None:
        self._average, self._rate = start.clone(), rate

    def __call__(self, step: Step) -> torch.Tensor:
        """The unweighted term, a scalar; updates the average."""
        with torch.no_grad():
            wanted = step.statistics_at(self._average)
            self._average.lerp_(step.images, 1 - self._rate)
        return weighted_distance(step.statistics, [(1.0, [own or [] for own in wanted])])


def sharpness(step: Step, radius: float) -> torch.Tensor:
    """Vanilla SAM (Foret et al., ICLR 2021; EDC's Table 4): the loss at the images moved uphill by `radius`.

    The move is radius * gradient / its norm over the whole batch, taken as constant. EDC prints no radius.

    Args:
        step: with images that require a gradient.
        radius: length of the move, in normalised pixel values.
    """
    (slope,) = torch.autograd.grad(step.loss, step.images, retain_graph=True)
    length = torch.linalg.vector_norm(slope).clamp(min=torch.finfo(slope.dtype).tiny)
    return step.loss_at(step.images + radius * slope / length)
