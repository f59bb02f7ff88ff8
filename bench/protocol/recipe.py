"""The evaluation recipe: every value that a protocol fixes for one cell (data set, ipc, student), after resolution.

A protocol file (see bench/protocol/definition.py) resolves to one `Recipe`; the training loop reads nothing else. A
default means "off", or torch's own value. A default never changes: digests leave out what stands at its default, so
that a released protocol keeps its digest when a new field comes. protocols/lock.json holds the defaults, and a changed
one is found.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.fingerprint import digest


class Part(BaseModel):
    """A strict, frozen piece of a recipe: an unknown key or a value out of range is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Optimizer(Part):
    """torch's AdamW or SGD, with torch's own meaning of every value."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW
    momentum: float = 0.0  # SGD
    nesterov: bool = False  # SGD
    # "weights": only tensors of two or more dimensions with "weight" in their name: no bias, no norm, no embedding of
    # positions (SRe2L's rule).
    decay: Literal["weights", "all"] = "weights"


class Schedule(Part):
    """Learning rate at progress e (epochs done, from 0) of E epochs, as a multiple of `lr`.

    constant: 1. linear: 1 - e / E.
    cosine: (1 + cos(pi e / (zeta E))) / 2; zeta=1 ends near 0, zeta=2 ends at one half (RDED, EDC).
    ssrs: the cosine up to and including e = 5 E / 6, then (1 + cos(5 pi / (6 zeta))) / 2 * (6 E - 6 e) / (6 E) (EDC's
    smoothing schedule as coded: the rate jumps down after 5 E / 6).
    multistep: gamma to the power of the milestones that are reached, e >= milestone.
    loss-driven: gamma to the power of the epochs so far whose mean training loss fell by less than `loss_fall` and by
    less than `loss_fall_share` of the loss before (a loss that rises does both), as ALRS has it.

    With `warmup` = W > 0, epochs e < W run at warmup_start + (1 - warmup_start) e / W, and the rest as above with e - W
    of E - W epochs (milestones stay counted from 0).
    """

    name: Literal["cosine", "ssrs", "linear", "multistep", "constant", "loss-driven"] = "cosine"
    zeta: Positive = 1.0
    per: Literal["epoch", "step"] = "epoch"  # "step": e grows by 1 / (steps per epoch) with every optimiser step
    warmup: Annotated[int, Field(ge=0)] = 0  # epochs
    warmup_start: Share = 0.0  # multiple of `lr` at the first epoch of the warm-up
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()  # epochs
    gamma: Positive = 0.1
    loss_fall: Positive = 0.02
    loss_fall_share: Positive = 0.02
    restart: bool = False  # a fresh optimiser at every milestone: momentum is lost (DC-BENCH)


class Loss(Part):
    """ce: cross-entropy with the hard label (mixed by area under CutMix, by lambda under Mixup; with mix_labels = false
        that of the image itself, whatever is mixed in).
    kl: KL(softmax(teacher/T) || softmax(student/T)), summed over classes, mean over the batch.
    soft-ce: cross-entropy of softmax(student/T) under softmax(teacher/T), mean over the batch (SCORE, eq. 2).
    mse: mean over batch and classes of (student - teacher)^2 of raw logits (G-VBSM, EDC).

    All but ce add `hard_weight` times the cross-entropy with the class of the image itself, whatever is mixed in.
    """

    name: Literal["ce", "kl", "soft-ce", "mse"] = "ce"
    temperature: Positive = 1.0  # kl, soft-ce
    times_t_squared: bool = False  # kl, soft-ce: the soft part is multiplied by T^2
    hard_weight: Annotated[float, Field(ge=0)] = 0.0
    mix_labels: bool = True  # ce under mixing


class Augment(Part):
    """One view of an image: RandAugment, patches, crop, flip, then mix with a partner, then cut out."""

    randaugment_ops: Annotated[int, Field(ge=0)] = 0  # operations per image, before all else; 0 is off
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9  # of torchvision's 31 bins
    patches: Literal["none", "shuffle", "extract"] = "none"
    patch_grid: Annotated[int, Field(ge=1)] = 1  # patches per side
    pad: Share = 0.0  # crop of the whole size after padding each side by this share of it, with black (CIFAR's 4 of 32)
    crop_scale: tuple[Share, Share] = (1.0, 1.0)  # share of the area; (1, 1) keeps the whole image
    crop_ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Share = 0.5  # probability; only where the data set says that a mirrored image keeps its class
    mix: Literal["none", "cutmix", "mixup"] = "none"
    mix_alpha: Positive = 1.0  # lambda ~ Beta(alpha, alpha)
    mix_probability: Share = 1.0
    mix_unit: Literal["image", "batch"] = "image"  # lambda, box, partner per image, or one lambda and box a batch
    cutout: Share = 0.0  # side of the erased square as a share of the image's side; 0 is none
    cutout_probability: Share = 1.0

    @model_validator(mode="after")
    def _fits_together(self) -> Augment:
        if self.pad and self.patches == "extract":
            raise ValueError("pad and patches = 'extract' do not go together: around a tile is image, not black")
        return self


class Recipe(Part):
    """All that is fixed in one cell.

    `labels` is the label regime. hard: class labels. stored: teacher logits of K views, made once, encoded by a
    compressor. online: the teacher answers for every batch while the student trains; nothing is stored. learned: the
    labels that the method hands in beside its images (bench.api.Condensed.soft_labels), read as a teacher's logits.
    """

    labels: Literal["hard", "stored", "online", "learned"]
    views: Annotated[int, Field(ge=0)] = 0  # K, stored views per image; 0 for other regimes
    # Which stored view a step is shown. epoch: epoch e shows view e mod K. batch: every step draws one stored batch
    # with replacement; a short last batch gives way to the one before it (LPLD).
    draw: Literal["epoch", "batch"] = "epoch"
    # Logits of several teachers become one: their mean, or the mean after each teacher's batch of logits was scaled to
    # the mean Frobenius norm of all of them (G-VBSM).
    ensemble: Literal["mean", "norm-mean"] = "mean"
    teacher_mode: Literal["eval", "train"] = "eval"  # of batch norm while labels are made; "train": on batch statistics
    epochs: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]  # images per optimiser step
    accumulation: Annotated[int, Field(ge=1)] = 1  # chunks a batch is cut into; batch norm sees one chunk at a time
    # nominal: every chunk's mean loss is divided by `accumulation`, also where the last batch has fewer or smaller
    # chunks (SRe2L). images: chunks count by their images, so that the sum is the mean over the batch.
    accumulation_weight: Literal["nominal", "images"] = "images"
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    augment: Augment = Augment()
    # DSA: after all else, one of these operations with equal chances for every batch, with parameters of each image's
    # own (bench/views/siamese.py); flip only where the data set says that a mirrored image keeps its class.
    siamese: tuple[Literal["color", "crop", "cutout", "flip", "scale", "rotate"], ...] = ()
    normalisation: Literal["dataset", "imagenet", "cifar10", "cifar100", "tiny-imagenet"] = "dataset"  # of the student
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay per step of an average of the parameters; 0 is off
    # fp32: single precision, without NVIDIA's TF32. tf32: products and convolutions of GPUs may use it; on processors
    # it is fp32. bf16: torch's autocast rounds activations to bfloat16; weights, gradients and losses stay single.
    # Students are tested, and teachers asked, in single precision.
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    memory_format: Literal["device", "contiguous", "channels_last"] = "device"  # device: channels_last on processors
    deterministic: bool = False  # of a GPU's sums: in a fixed order, so that a run gives the same bits again there
    # Network slimming: the derivative of so many times the sum of |scale| of all batch norms is added to every step.
    scale_l1: Annotated[float, Field(ge=0)] = 0.0
    # Applications of a condensed set, in which a trial trains several students; its result is the last one's, and its
    # record tells all. Class-incremental continual learning: classes come in so many steps, and at each a student is
    # trained from scratch on the images of the classes so far; 0 is off.
    class_steps: Annotated[int, Field(ge=0)] = 0
    # Network slimming: the protocol's last teacher keeps these shares of its channels, those with the largest scales of
    # batch norm, and is trained on the condensed set; () is off.
    kept_channels: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    # equal: a condensed set has ipc images of every class. free: ipc times as many images as there are classes, of each
    # class as many as the method likes, also none.
    class_balance: Literal["equal", "free"] = "equal"

    @property
    def digest(self) -> str:
        """Hex sha256 of the canonical JSON of what is not at its default."""
        return digest(self.model_dump(mode="json", exclude_defaults=True))

    def trainings(self, classes: int) -> tuple[int, ...]:
        """How many of a data set's classes each training of a trial is on, the last one on all; one training without an
        application."""
        if self.class_steps:
            return tuple(
                dict.fromkeys(-(-classes * step // self.class_steps) for step in range(1, self.class_steps + 1))
            )
        return (classes,) * max(1, len(self.kept_channels))

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if (self.loss.name == "ce") != (self.labels == "hard"):
            raise ValueError(
                f"loss '{self.loss.name}' does not go with labels = '{self.labels}': ce is for hard labels, "
                f"kl, soft-ce and mse are for stored, online and learned ones"
            )
        if self.labels == "learned" and self.augment.mix != "none":
            raise ValueError("labels = 'learned' belong to one image each: augment.mix must be 'none'")
        if self.loss.name == "ce" and self.loss.hard_weight:
            raise ValueError("loss.hard_weight belongs to kl, soft-ce and mse; ce is the hard label already")
        if not self.loss.mix_labels and (self.loss.name != "ce" or self.augment.mix == "none"):
            raise ValueError(
                "loss.mix_labels = false belongs to ce under augment.mix: soft labels are those of the mix"
            )
        if (self.views > 0) != (self.labels == "stored"):
            raise ValueError(
                "views, the number of stored views per image, must be at least 1 for labels = 'stored' and 0 otherwise"
            )
        if self.draw == "batch" and (self.labels != "stored" or self.augment.mix_unit != "batch"):
            raise ValueError(
                "draw = 'batch' needs labels = 'stored' and augment.mix_unit = 'batch': batches are stored"
            )
        if self.siamese and self.labels == "stored":
            raise ValueError("siamese is drawn for every batch anew and does not go with labels = 'stored'")
        if self.class_steps and (self.kept_channels or self.labels == "stored"):
            raise ValueError("class_steps goes neither with kept_channels nor with labels = 'stored'")
        if self.class_steps and self.class_balance == "free":
            raise ValueError("class_steps goes with class_balance = 'equal': a step needs images of its classes")
        if self.class_steps == 1:
            raise ValueError("class_steps is at least 2: one step is no continual learning")
        if self.kept_channels and self.labels not in ("hard", "learned"):
            raise ValueError(
                "kept_channels goes with labels = 'hard' or 'learned': the teacher is the network that is slimmed"
            )
        if list(self.kept_channels) != sorted(set(self.kept_channels), reverse=True):
            raise ValueError("kept_channels go down, from the largest share to the smallest")
        if self.batch % self.accumulation:
            raise ValueError(f"accumulation = {self.accumulation} does not divide batch = {self.batch}")
        if self.schedule.warmup >= self.epochs:
            raise ValueError(f"schedule.warmup = {self.schedule.warmup} must be below epochs = {self.epochs}")
        if self.schedule.name == "loss-driven" and self.schedule.per == "step":
            raise ValueError("schedule.per = 'epoch' belongs to loss-driven: it knows the mean loss of an epoch")
        if (self.schedule.name == "multistep") != bool(self.schedule.milestones):
            raise ValueError("schedule.milestones belong to multistep, which needs at least one")
        return self


# What a miniature has less of.
SCALED = ("epochs", "views", "schedule.warmup", "schedule.milestones")


def scaled(recipe: Recipe, scale: float, typed: Collection[str] = ()) -> Recipe:
    """The recipe in miniature, to exercise its code: epochs, stored views, warm-up and milestones times `scale`.

    Args:
        recipe: of one cell.
        scale: in (0, 1); at least 2 epochs and 2 views are left.
        typed: those of `SCALED` that stay as they are, since somebody typed them beside the scale.
    """
    epochs = recipe.epochs if "epochs" in typed else max(2, round(recipe.epochs * scale))
    views = max(2, round(recipe.views * scale)) if recipe.views and "views" not in typed else recipe.views
    schedule: dict[str, int | tuple[int, ...]] = {}
    if "schedule.warmup" not in typed and recipe.schedule.warmup:
        schedule["warmup"] = min(epochs - 1, max(1, round(recipe.schedule.warmup * scale)))
    if "schedule.milestones" not in typed:
        stones = {min(epochs - 1, max(1, round(each * scale))) for each in recipe.schedule.milestones}
        schedule["milestones"] = tuple(sorted(stones))
    fewer = {"epochs": epochs, "views": views, "schedule": recipe.schedule.model_copy(update=schedule)}
    return recipe.model_copy(update=fewer)
