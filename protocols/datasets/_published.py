"""The field's data sets as published: layouts, numbers of images, archives with their checksums.

Checksums of what torchvision downloads are torchvision's; the others are those that the publishers or several
independent loaders name.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.places import Layout


@dataclass(frozen=True)
class Archive:
    """A file to download; what is packed is unpacked beside it."""

    url: str
    md5: str


@dataclass(frozen=True)
class Published:
    """One data set."""

    layouts: tuple[Layout, ...]
    images: tuple[int, int] | None = None  # of the train and of the test split, where they are known
    archives: tuple[Archive, ...] = ()
    by_hand: str = ""  # where nothing can be downloaded without an account: what to do


def _idx(*folders: str) -> tuple[Layout, ...]:
    names = [f"{split}-{what}" for split in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    return Layout(tuple(f"{name}.gz" for name in names), folders), Layout(tuple(names), folders)


def idx_archives(base: str, checksums: dict[str, str]) -> tuple[Archive, ...]:
    """The four gzip files of MNIST's format."""
    return tuple(Archive(f"{base}{file}", md5) for file, md5 in checksums.items())


MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR10_PARTS = tuple(f"data_batch_{part}" for part in range(1, 6))
# The 100 classes of CMC (Tian et al., ECCV 2020: imagenet100.txt), which IDC takes as ImageNet-100 in this order, and
# the first ten of them as ImageNet-10.
IDC_100 = tuple(
    """
n02869837 n01749939 n02488291 n02107142 n13037406 n02091831 n04517823 n04589890 n03062245 n01773797
n01735189 n07831146 n07753275 n03085013 n04485082 n02105505 n01983481 n02788148 n03530642 n04435653
n02086910 n02859443 n13040303 n03594734 n02085620 n02099849 n01558993 n04493381 n02109047 n04111531
n02877765 n04429376 n02009229 n01978455 n02106550 n01820546 n01692333 n07714571 n02974003 n02114855
n03785016 n03764736 n03775546 n02087046 n07836838 n04099969 n04592741 n03891251 n02701002 n03379051
n02259212 n07715103 n03947888 n04026417 n02326432 n03637318 n01980166 n02113799 n02086240 n03903868
n02483362 n04127249 n02089973 n03017168 n02093428 n02804414 n02396427 n04418357 n02172182 n01729322
n02113978 n03787032 n02089867 n02119022 n03777754 n04238763 n02231487 n03032252 n02138441 n02104029
n03837869 n03494278 n04136333 n03794056 n03492542 n02018207 n04067472 n03930630 n03584829 n02123045
n04229816 n02100583 n03642806 n04336792 n03259280 n02116738 n02108089 n03424325 n01855672 n02090622
""".split()  # noqa: SIM905 (a block of words)
)
_SVHN = "http://ufldl.stanford.edu/housenumbers/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_IMAGENETTE = "https://s3.amazonaws.com/fast-ai-imageclas/"


def _ilsvrc(first: str, last: str) -> tuple[Layout, ...]:
    """A tree train/WNID/, val/WNID/ that has these two classes: of all 1,000, or of a part."""
    return (
        Layout(
            (f"train/{first}", f"train/{last}", "val"),
            ("imagenet-1k", "imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        ),
    )


_ILSVRC_BY_HAND = (
    "ILSVRC2012 needs an account at image-net.org: download ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
    "ILSVRC2012_devkit_t12.tar.gz into DIR, let torchvision sort them (torchvision.datasets.ImageNet(DIR, 'train') and "
    "'val'), then type --data DIR"
)

SETS: dict[str, Published] = {
    "mnist": Published(
        _idx("MNIST/raw"), (60_000, 10_000), idx_archives("https://ossci-datasets.s3.amazonaws.com/mnist/", MNIST_FILES)
    ),
    "fashion-mnist": Published(
        _idx("FashionMNIST/raw"),
        (60_000, 10_000),
        idx_archives("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", FASHION_FILES),
    ),
    "svhn": Published(
        (Layout(("train_32x32.mat", "test_32x32.mat"), ("SVHN",)),),
        (73_257, 26_032),
        (
            Archive(f"{_SVHN}train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
            Archive(f"{_SVHN}test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
        ),
    ),
    "cifar10": Published(
        (
            Layout((*(f"{part}.bin" for part in CIFAR10_PARTS), "test_batch.bin"), ("cifar-10-batches-bin",)),
            Layout((*CIFAR10_PARTS, "test_batch"), ("cifar-10-batches-py",)),
        ),
        (50_000, 10_000),
        (Archive(f"{_CIFAR}cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
    ),
    "cifar100": Published(
        (
            Layout(("train.bin", "test.bin"), ("cifar-100-binary",)),
            Layout(("train", "test", "meta"), ("cifar-100-python",)),
        ),
        (50_000, 10_000),
        (Archive(f"{_CIFAR}cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),),
    ),
    "tiny-imagenet": Published(
        (Layout(("wnids.txt", "train", "val"), ("tiny-imagenet-200",)),),
        (100_000, 10_000),
        (Archive("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),),
    ),
    "imagenette": Published(
        (Layout(("train/n01440764", "val/n01440764"), ("imagenette2",)),),
        (9_469, 3_925),
        (Archive(f"{_IMAGENETTE}imagenette2.tgz", "fe2fc210e6bb7c5664d602c3cd71e612"),),
    ),
    "imagewoof": Published(
        (Layout(("train/n02086240", "val/n02086240"), ("imagewoof2",)),),
        (9_025, 3_929),
        (Archive(f"{_IMAGENETTE}imagewoof2.tgz", "9aafe18bcdb1632c4249a76c458465ba"),),
    ),
    "imagenet-10": Published(_ilsvrc(*IDC_100[:10:9]), None, by_hand=_ILSVRC_BY_HAND),
    "imagenet-100": Published(_ilsvrc(*IDC_100[::99]), None, by_hand=_ILSVRC_BY_HAND),
    "imagenet-1k": Published(_ilsvrc("n01440764", "n15075141"), (1_281_167, 50_000), by_hand=_ILSVRC_BY_HAND),
}
