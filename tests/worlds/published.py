"""What the literature's protocols come to, cell by cell: written from the sources, not from the files in protocols/.

`EXPECTED` lists (protocol, data sets, ipcs, recipe, normalisation by data set).
"""

from __future__ import annotations

from typing import Any

from bench.protocol.recipe import Augment, Loss, Optimizer, Recipe, Schedule

CLASSES = {
    "cifar10": 10, "cifar100": 100, "tiny-imagenet": 200, "imagenette": 10, "imagewoof": 10, "imagenet-10": 10,
    "imagenet-100": 100, "imagenet-1k": 1000, "digits": 10, "mnist5k": 10, "glyphs": 100, "heldout": 10,
}  # fmt: skip
SIZES = {
    "cifar10": 32, "cifar100": 32, "tiny-imagenet": 64, "imagenette": 224, "imagewoof": 224, "imagenet-10": 224,
    "imagenet-100": 224, "imagenet-1k": 224, "digits": 8, "mnist5k": 28, "glyphs": 32, "heldout": 8,
}  # fmt: skip
IPCS = (1, 5, 10, 20, 50, 100, 200)
CIFAR = ["cifar10", "cifar100"]
TINY = ["tiny-imagenet"]
SUBSETS10 = ["imagenette", "imagewoof", "imagenet-10"]
IMAGENETS = [*SUBSETS10, "imagenet-100", "imagenet-1k"]
EMBEDDED = ["digits", "mnist5k", "glyphs", "heldout"]
EVERY = list(CLASSES)
SMALL = [*CIFAR, *TINY, *EMBEDDED]  # 64 px and below

ADAMW = Optimizer(name="adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.999), decay="weights")
ADAMW_ALL = ADAMW.model_copy(update={"decay": "all"})
COSINE = Schedule(name="cosine", zeta=1)
HALF_COSINE = Schedule(name="cosine", zeta=2)
WARM_COSINE = Schedule(name="cosine", zeta=1, warmup=5, warmup_start=0.01)
CUTMIX = {"mix": "cutmix", "mix_alpha": 1, "mix_probability": 1, "mix_unit": "batch"}
MIXUP = {"mix": "mixup", "mix_alpha": 0.8, "mix_probability": 1, "mix_unit": "batch"}
CROP = Augment(crop_scale=(0.08, 1), flip=0.5)  # fixed by torchvision: ratio 3/4 to 4/3
CROP_CUTMIX = Augment(crop_scale=(0.08, 1), flip=0.5, **CUTMIX)
PAD_MIXUP = Augment(pad=4 / 32, crop_scale=(1, 1), flip=0.5, **MIXUP)
KL20 = Loss(name="kl", temperature=20)
KL20_T2 = Loss(name="kl", temperature=20, times_t_squared=True)
KL30 = Loss(name="kl", temperature=30)


def sgd(lr: float, momentum: float, weight_decay: float, decay: str) -> Optimizer:
    return Optimizer(name="sgd", lr=lr, momentum=momentum, weight_decay=weight_decay, decay=decay)


def own(dataset: str) -> str:
    """Each data set's own constants, as most sources normalise."""
    if dataset in EMBEDDED:
        return "dataset"
    return "imagenet" if dataset in IMAGENETS else dataset


def with_(*, cifar10: str = "cifar10", cifar100: str = "cifar100", tiny: str = "tiny-imagenet") -> Any:
    special = {"cifar10": cifar10, "cifar100": cifar100, "tiny-imagenet": tiny}
    return lambda dataset: special.get(dataset, own(dataset))


def everywhere(name: str) -> Any:
    return lambda _: name


EXPECTED: list[tuple[str, list[str], tuple[int, ...], Recipe, Any]] = []


def expect(protocol: str, datasets: list[str], recipe: Recipe, normalisation: Any = own, ipcs: Any = IPCS) -> None:
    EXPECTED.append((protocol, datasets, tuple(ipcs), recipe, normalisation))


def but(datasets: list[str]) -> list[str]:
    return [name for name in EVERY if name not in datasets]


# --- standard ---------------------------------------------------------------------------------------------------------

CDA = Recipe(
    labels="stored", views=300, epochs=300, batch=128, optimizer=ADAMW, schedule=COSINE, loss=KL20, augment=CROP_CUTMIX
)
HARD = Recipe(
    labels="hard", epochs=300, batch=128, optimizer=ADAMW, schedule=COSINE, loss=Loss(name="ce"), augment=CROP
)
expect("standard-soft-v1", EVERY, CDA)
expect("standard-hard-adamw-v1", EVERY, HARD)
expect("standard-hard-sgd-v1", EVERY, HARD.model_copy(update={"optimizer": sgd(0.1, 0.9, 1e-4, "all")}))

# --- SRe2L, LPLD, DWA -------------------------------------------------------------------------------------------------

NOMINAL = {"accumulation_weight": "nominal"}
SRE2L_CIFAR = Recipe(
    labels="online", teacher_mode="train", epochs=400, batch=128, optimizer=ADAMW_ALL, schedule=COSINE, loss=KL30,
    augment=PAD_MIXUP,
)  # fmt: skip
SRE2L_TINY = Recipe(
    labels="online", epochs=100, batch=256, optimizer=sgd(0.2, 0.9, 1e-4, "all"), schedule=WARM_COSINE, loss=KL20_T2,
    augment=CROP.model_copy(update={"mix_unit": "batch"}),
)  # fmt: skip
SRE2L = but([*CIFAR, *TINY])
expect("sre2l-v1", SRE2L, CDA.model_copy(update={"batch": 1024, "accumulation": 2, **NOMINAL}))
expect("sre2l-v1", CIFAR, SRE2L_CIFAR.model_copy(update=NOMINAL), with_(cifar100="cifar10"))
expect("sre2l-v1", TINY, SRE2L_TINY.model_copy(update=NOMINAL))
expect("lpld-v1", but(TINY), CDA.model_copy(update={"draw": "batch"}))
LPLD_TINY = {"labels": "stored", "views": 100, "draw": "batch", "batch": 64}
expect("lpld-v1", TINY, SRE2L_TINY.model_copy(update={**LPLD_TINY, "optimizer": sgd(0.2, 0.9, 1e-4, "weights")}))
expect("dwa-v1", SRE2L, CDA.model_copy(update={"labels": "online", "views": 0}))
expect("dwa-v1", CIFAR, SRE2L_CIFAR)
expect("dwa-v1", TINY, SRE2L_TINY.model_copy(update={"batch": 64, "epochs": 200}))

# --- RDED -------------------------------------------------------------------------------------------------------------

RDED = Recipe(
    labels="online", epochs=300, batch=100, optimizer=ADAMW, schedule=HALF_COSINE, loss=KL20,
    augment=Augment(patches="shuffle", patch_grid=2, crop_scale=(0.5, 1), flip=0.5, **CUTMIX),
)  # fmt: skip
WHOLE = Augment(crop_scale=(1, 1), flip=0.5, **CUTMIX)
for ipc in IPCS:
    base = 10 if ipc < 10 else 50 if ipc < 50 else 100
    for name in EVERY:
        batch = 100 if name == "tiny-imagenet" else base * (2 if CLASSES[name] >= 100 else 1)
        cell = {"batch": batch, **({"augment": WHOLE} if name in SMALL else {})}
        expect("rded-v1", [name], RDED.model_copy(update=cell), everywhere("imagenet"), (ipc,))

# --- G-VBSM, EDC ------------------------------------------------------------------------------------------------------

GVBSM = Recipe(
    labels="stored", views=300, ensemble="norm-mean", epochs=300, batch=1024, accumulation_weight="nominal",
    optimizer=ADAMW, schedule=COSINE, loss=Loss(name="mse", hard_weight=0.1), augment=CROP_CUTMIX,
)  # fmt: skip
G_NORM = with_(cifar10="cifar100", tiny="imagenet")
LONG = {"views": 1000, "epochs": 1000, "ensemble": "mean", "loss": Loss(name="mse", hard_weight=0.15)}
expect("gvbsm-v1", but([*CIFAR, *TINY]), GVBSM, G_NORM)
expect("gvbsm-v1", ["cifar10"], GVBSM.model_copy(update={**LONG, "batch": 100}), G_NORM)
G_SGD = sgd(0.1, 0.9, 5e-4, "weights")
expect("gvbsm-v1", ["cifar100"], GVBSM.model_copy(update={**LONG, "batch": 64, "optimizer": G_SGD}), G_NORM)
G_TINY = {"views": 100, "epochs": 100, "ensemble": "mean", "batch": 100, "accumulation": 2, "optimizer": G_SGD}
expect("gvbsm-v1", TINY, GVBSM.model_copy(update=G_TINY), G_NORM)

RANDAUGMENT = {"randaugment_ops": 2, "randaugment_magnitude": 9}
HALF_CROP = Augment(crop_scale=(0.5, 1), flip=0.5, **CUTMIX)
HALF_CROP_RANDAUGMENT = Augment(crop_scale=(0.5, 1), flip=0.5, **CUTMIX, **RANDAUGMENT)
E_SGD = sgd(0.1, 0.875, 5e-4, "weights")
SSRS = Schedule(name="ssrs", zeta=2)
STEPS = Schedule(name="multistep", zeta=2, milestones=(800, 900, 950), gamma=0.5)
for name, schedule in (("edc-v1", HALF_COSINE), ("edc-ssrs-v1", SSRS)):
    EDC = Recipe(
        labels="stored", views=300, epochs=300, batch=100, optimizer=ADAMW, schedule=schedule, ema=0.99,
        loss=Loss(name="mse", hard_weight=0.025), augment=HALF_CROP,
    )  # fmt: skip
    online = EDC.model_copy(update={"labels": "online", "views": 0, "augment": HALF_CROP_RANDAUGMENT})
    expect(name, ["imagenet-1k", "imagenet-100", *EMBEDDED], EDC, G_NORM)
    expect(name, SUBSETS10, online.model_copy(update={"epochs": 1000, "batch": 50}), G_NORM)
    cifar100 = {"epochs": 1000, "batch": 50, "optimizer": E_SGD}
    expect(name, ["cifar100"], online.model_copy(update=cifar100), G_NORM)
    expect(name, TINY, online.model_copy(update={"optimizer": E_SGD}), G_NORM, IPCS[1:])
    expect(name, TINY, online.model_copy(update={"optimizer": E_SGD, "epochs": 1000}), G_NORM, (1,))
    cifar10 = {
        "epochs": 1000,
        "schedule": STEPS if name == "edc-v1" else SSRS,
        "augment": HALF_CROP_RANDAUGMENT.model_copy(update={"crop_scale": (0.08, 1)}),
    }
    expect(name, ["cifar10"], online.model_copy(update={**cifar10, "batch": 10}), G_NORM, (1,))
    expect(name, ["cifar10"], online.model_copy(update={**cifar10, "batch": 25}), G_NORM, IPCS[1:])

# --- SCORE (table 5), PCA, DD-Ranking, DC-BENCH -----------------------------------------------------------------------


def score(least: float, *, lr: float = 1e-3, batch: int = 64, temperature: float = 20) -> Recipe:
    return Recipe(
        labels="stored", views=300, epochs=300, batch=batch, schedule=COSINE,
        optimizer=ADAMW.model_copy(update={"lr": lr}), loss=Loss(name="soft-ce", temperature=temperature),
        augment=Augment(crop_scale=(least, 1), flip=0.5, **CUTMIX),
    )  # fmt: skip


expect("score-v1", but([*TINY, "imagenette", "imagewoof"]), score(0.4))
expect("score-v1", TINY, score(0.3, batch=50), ipcs=(1, 5, 10, 20))
expect("score-v1", TINY, score(0.4, batch=50), ipcs=(50, 100, 200))
expect("score-v1", ["imagewoof"], score(0.3))
expect("score-v1", ["imagenette"], score(0.2, lr=5e-4, batch=10, temperature=10))

TILES = Augment(patches="extract", patch_grid=2, crop_scale=(0.08, 1), flip=0.5)
expect("pca-v1", but(["digits", "heldout"]), HARD.model_copy(update={"augment": TILES}))
LARGE_TILES = TILES.model_copy(update={"crop_scale": (0.25, 1)})
expect("pca-v1", ["digits", "heldout"], HARD.model_copy(update={"augment": LARGE_TILES}))

DD_RANKING = Recipe(
    labels="online", epochs=300, batch=1024, optimizer=ADAMW_ALL, schedule=HALF_COSINE,
    loss=Loss(name="kl", temperature=1), augment=CROP_CUTMIX,
)  # fmt: skip
expect("dd-ranking-v1", EVERY, DD_RANKING, with_(cifar100="cifar10", tiny="imagenet"))

DC_BENCH = Recipe(
    labels="hard", epochs=301, batch=256, optimizer=sgd(0.01, 0.9, 5e-4, "all"), loss=Loss(name="ce"),
    schedule=Schedule(name="multistep", milestones=(152,), gamma=0.1, restart=True),
    augment=Augment(crop_scale=(1, 1), flip=0),
)  # fmt: skip
expect("dc-bench-v1", EVERY, DC_BENCH, with_(tiny="imagenet"))

# --- DC, DSA (tests/protocol/test_dc_protocols.py writes their loop out) ----------------------------------------------

expect("dc-v1", EVERY, DC_BENCH, with_(tiny="imagenet"))
DSA = {"epochs": 1001, "siamese": ("color", "crop", "cutout", "flip", "scale", "rotate")}
DSA_STEPS = Schedule(name="multistep", milestones=(502,), gamma=0.1, restart=True)
expect("dsa-v1", EVERY, DC_BENCH.model_copy(update={**DSA, "schedule": DSA_STEPS}), with_(tiny="imagenet"))

PUBLISHED = sorted({protocol for protocol, *_ in EXPECTED})

# --- who teaches ------------------------------------------------------------------------------------------------------

ONE = {
    "cifar10": "cifar-resnet18-v1", "cifar100": "cifar-resnet18-v1", "tiny-imagenet": "tiny-resnet18-v1",
    **dict.fromkeys([*SUBSETS10, "imagenet-100"], "imagenet-subset-resnet18-v1"),
    "imagenet-1k": "imagenet-resnet18-v1", **dict.fromkeys(EMBEDDED, "small-teacher-v1"),
}  # fmt: skip
FIVE = ("resnet18", "convnet", "wrn-16-2", "mobilenet-v2", "shufflenet-v2-x0-5")
FOUR = ("resnet18", "mobilenet-v2", "efficientnet-b0", "shufflenet-v2-x0-5")


def teachers(protocol: str, dataset: str) -> tuple[str, ...]:
    """Names of the teacher recipes that a protocol asks on a data set."""
    if protocol not in ("gvbsm-v1", "edc-v1", "edc-ssrs-v1"):
        return (ONE[dataset],)
    edc = protocol != "gvbsm-v1"
    if dataset in EMBEDDED:
        kinds = ("teacher", "convnet-teacher", "deep-teacher", "wide-teacher")
        return tuple(f"small-{kind}-v1" for kind in kinds)
    if dataset == "imagenet-1k":
        kinds = ("resnet18", "mobilenet-v2", "shufflenet-v2-x0-5", "alexnet") if edc else FOUR
        return tuple(f"imagenet-{kind}-v1" for kind in kinds)
    if dataset in IMAGENETS:
        return tuple(f"imagenet-subset-{kind}-v1" for kind in FOUR)
    family = "tiny" if dataset in TINY else "cifar"
    more = ("convnet-d1", "convnet-d2", "convnet-w32") if edc and dataset == "cifar10" else ()
    return tuple(f"{family}-{kind}-v1" for kind in (*FIVE, *more))


def student(protocol: str, dataset: str) -> str:
    """The student where a plan names none."""
    if protocol not in ("dc-bench-v1", "dc-v1", "dsa-v1"):
        return "convnet:width=16" if dataset in EMBEDDED else "torchvision:resnet18"
    depth = {64: 4, 224: 6}.get(SIZES[dataset], 3)
    if protocol != "dc-bench-v1":
        return "dc_convnet:width=16" if dataset in EMBEDDED else "dc_convnet" + (f":depth={depth}" if depth > 3 else "")
    if dataset in EMBEDDED:
        return "convnet:width=16,norm=instance"
    return f"convnet:depth={depth},width=128,norm=instance"
