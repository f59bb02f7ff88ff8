"""What images are normalised with: the data set's own constants, or those of another one by name.

Several of the literature's protocols normalise with the constants of another data set (RDED: ImageNet's everywhere;
SRe2L: CIFAR-10's on CIFAR-100). The values are those of the published code, per channel, in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.api import Dataset

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation, per channel

CONSTANTS: dict[str, Statistics] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "tiny-imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


def written(mean: Sequence[float], std: Sequence[float]) -> str:
    """Constants as a name that `statistics` reads: `0.5,0.5,0.5/0.5,0.5,0.5`."""
    return "/".join(",".join(repr(float(value)) for value in values) for values in (mean, std))


def _written(name: str) -> Statistics:
    mean, std = (tuple(float(value) for value in part.split(",")) for part in name.split("/"))
    return mean, std


def statistics(name: str, dataset: Dataset) -> Statistics:
    """(mean, std) by the name that a recipe gives (bench.protocol.recipe.Recipe.normalisation).

    "dataset" is the data set's own; `written` makes a name of constants that have none. The constants of colour
    photographs become, for images that have not three channels, the mean over their channels of the means and of the
    standard deviations, the same for every channel.
    """
    if name == "dataset":
        return tuple(dataset.mean), tuple(dataset.std)
    mean, std = CONSTANTS[name] if name in CONSTANTS else _written(name)
    if dataset.channels == len(mean):
        return mean, std
    return (sum(mean) / len(mean),) * dataset.channels, (sum(std) / len(std),) * dataset.channels
