"""Which training a data set's dynamics are logged of. Nothing here loads torch.

The embedded data sets keep one small network, which has made their committed records. Others get the training that
published scores come from, or, where there is none for their kind, that of their usual teacher.
"""

from __future__ import annotations

from bench.fingerprint import digest
from bench.plugins.registry import Registry
from bench.protocol.recipe import Recipe
from bench.teachers.teacher_files import TeacherRecipe, load_recipe

EMBEDDED = "small-dynamics-v1"
CIFAR, TINY, SUBSET, WHOLE, GREY = (
    "cifar-dynamics-v1",
    "tiny-resnet18-v1",
    "imagenet-subset-resnet18-v1",
    "imagenet-dynamics-v1",
    "dc-convnet-v1",
)
LISTED = {
    **dict.fromkeys(("digits", "mnist5k", "glyphs", "heldout"), EMBEDDED),
    **dict.fromkeys(("mnist", "fashion-mnist"), GREY),
    **dict.fromkeys(("cifar10", "cifar100", "svhn"), CIFAR),
    "tiny-imagenet": TINY,
    **dict.fromkeys(("imagenette", "imagewoof", "imagenet-10", "imagenet-100"), SUBSET),
    "imagenet-1k": WHOLE,
}
SMALL, LARGE = (
    32,
    64,
)  # pixels: data sets that are not listed get CIFAR's from the first on, the subsets' from the second


def recipe_name(dataset: str, size: int) -> str:
    """The recipe of a data set's dynamics, by its spec and the side of its images in pixels."""
    fallback = SUBSET if size >= LARGE else CIFAR if size >= SMALL else EMBEDDED
    return LISTED.get(dataset.partition(":")[0], fallback)


def dynamics_recipe(registry: Registry, dataset: str, size: int, classes: int) -> TeacherRecipe:
    """The recipe, resolved for the data set."""
    return load_recipe(registry, recipe_name(dataset, size), dataset, classes)


def shortened(recipe: Recipe, epochs: int) -> tuple[Recipe, int | None]:
    """(the recipe of a run in which so many epochs are logged, the epochs after which it stops; None: its last).

    Where the rate is constant, the first epochs of a longer run are the epochs of a shorter one. Where it falls, they
    are those of the whole recipe.
    """
    if recipe.schedule.name == "constant" or epochs > recipe.epochs:
        return recipe.model_copy(update={"epochs": epochs}), None
    return recipe, epochs


def dynamics_identity(registry: Registry, dataset: str, size: int, classes: int) -> str | None:
    """What tells dynamics from those of another recipe or network: a digest; None for those of the embedded data sets,
    which records have never told."""
    if recipe_name(dataset, size) == EMBEDDED:
        return None
    return digest(dynamics_recipe(registry, dataset, size, classes).inputs(""))
