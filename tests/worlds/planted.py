"""Plugins that keep every rule of the conformance kit, to be spoilt one line at a time by the tests."""

METHOD = '''
"""The first images of each class, by the light of the teacher's features."""

import numpy as np


def select(train, ipc, ctx, *, order: str = "first", share: float = 0.5):
    if order not in ("first", "last"):
        raise ValueError(f"order: {order!r} is not one of first, last")
    features = np.asarray(ctx.features())
    picked = []
    for label in range(train.num_classes):
        own = train.class_indices(label)
        if len(own) < ipc:
            raise ValueError(f"class {label} has {len(own)} images, too few for ipc {ipc}")
        picked.append(own[:ipc])
    return np.concatenate(picked)
'''

DRAWN = '''
"""Random images of each class, a stream for every class."""

import numpy as np


def select(train, ipc, ctx):
    picked = []
    for label in range(train.num_classes):
        own = train.class_indices(label)
        if len(own) < ipc:
            raise ValueError(f"class {label} has {len(own)} images, too few for ipc {ipc}")
        rng = ctx.numpy("class", label)
        picked.append(rng.permutation(own)[:ipc])
    return np.concatenate(picked)
'''

MADE = '''
"""Noisy means of each class."""

import numpy as np
import torch

from bench.api import Condensed


def synthesize(train, ipc, ctx, *, iterations: int = 500):
    images = []
    for label in range(train.num_classes):
        own = train.class_indices(label)
        if not len(own):
            raise ValueError(f"class {label} has no images")
        mean = train.images(own).float().mean(dim=0)
        noise = torch.randn(ipc, *mean.shape, generator=ctx.torch("noise", label)) * iterations
        images.append((mean + noise).clamp(0, 255).to(torch.uint8))
    labels = torch.arange(train.num_classes).repeat_interleave(ipc)
    return Condensed(torch.cat(images), labels, provenance={"ipc": ipc, "range": (0, 255)})
'''

LABELLED = MADE.replace(
    "    return Condensed(torch.cat(images), labels, ",
    """    members = [train.images(train.class_indices(c)) for c in range(train.num_classes)]
    own = torch.stack([images_of.float().mean(dim=0).flatten() for images_of in members])
    soft = own[labels] @ own.T / own.square().sum(dim=1).amax()
    return Condensed(torch.cat(images), labels, soft_labels=soft, """,
)  # beside its images, how alike the means of the classes are

COMPRESSOR = '''
"""As many whole views as fit, in float16, behind a checksum."""

import struct
import zlib

import numpy as np
import torch

from bench.errors import InfeasibleError

HEAD = struct.Struct("<IIIII")


def encode(labels, budget_bytes, ctx):
    values = labels.logits.numpy().astype(np.float16)
    if not np.isfinite(values).all():
        image, view, label = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"not finite at image {image}, view {view}, class {label}")
    n, k, c = values.shape
    views = min(k, (budget_bytes - HEAD.size) // (2 * n * c))
    if views < 1:
        raise InfeasibleError(HEAD.size + 2 * n * c)
    body = values[:, :views].tobytes()
    return HEAD.pack(zlib.crc32(body), n, k, views, c) + body


def parts(blob):
    if len(blob) < HEAD.size:
        raise ValueError("cut short")
    crc, n, k, views, c = HEAD.unpack(blob[: HEAD.size])
    body = blob[HEAD.size :]
    if zlib.crc32(body) != crc or len(body) != 2 * n * views * c or k < views:
        raise ValueError("damaged")
    return torch.from_numpy(np.frombuffer(body, np.float16).reshape(n, views, c).astype(np.float32))


def rows(blob):
    return np.arange(parts(blob).shape[1])


def decode(blob, rows=None):
    values = parts(blob)
    chosen = list(range(values.shape[1])) if rows is None else list(rows)
    if any(not 0 <= row < values.shape[1] for row in chosen):
        raise ValueError(f"rows: {chosen}")
    return values[:, chosen]
'''

SHARED = '''
"""What is left of the mean label, which all images share, in 16 bits a value."""

import struct
import zlib

import numpy as np
import torch

from bench.errors import InfeasibleError

HEAD = struct.Struct("<fHHH")


def seal(data):
    return struct.pack("<I", zlib.crc32(data)) + data


def opened(blob):
    if len(blob) < 4 or struct.unpack("<I", blob[:4])[0] != zlib.crc32(blob[4:]):
        raise ValueError("damaged")
    return blob[4:]


def fit(labels, budget_bytes, ctx):
    mean = labels.logits.float().mean(dim=(0, 1)).numpy().astype(np.float32)
    if not np.isfinite(mean).all():
        image, view, label = np.argwhere(~np.isfinite(labels.logits.numpy()))[0]
        raise ValueError(f"not finite at image {image}, view {view}, class {label}")
    size = 4 + mean.nbytes
    if size > budget_bytes:
        raise InfeasibleError(size + 4 + HEAD.size + 2 * labels.logits.numel())
    return seal(mean.tobytes())


def encode(labels, budget_bytes, ctx, *, shared):
    mean = np.frombuffer(opened(shared), np.float32)
    left = labels.logits.numpy().astype(np.float64) - mean
    n, k, c = left.shape
    size = 4 + HEAD.size + 2 * left.size
    if size > budget_bytes:
        raise InfeasibleError(size)
    scale = max(float(np.abs(left).max()), 1e-30)
    codes = np.rint(left / scale * 32767).astype(np.int16)
    return seal(HEAD.pack(scale, n, k, c) + codes.tobytes())


def decode(blob, rows=None, *, shared):
    body = opened(blob)
    scale, n, k, c = HEAD.unpack(body[: HEAD.size])
    codes = np.frombuffer(body[HEAD.size :], np.int16).reshape(n, k, c)
    chosen = list(range(k)) if rows is None else list(rows)
    if any(not 0 <= row < k for row in chosen):
        raise ValueError(f"rows: {chosen}")
    values = codes[:, chosen].astype(np.float64) / 32767 * scale + np.frombuffer(opened(shared), np.float32)
    return torch.from_numpy(values.astype(np.float32))
'''

DATASET = '''
"""Sixty squares of noise."""

import hashlib

import numpy as np

from bench.api import Dataset


class Source:
    def __init__(self, first, last):
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (60, 1, 4, 4), dtype=np.uint8)[first:last]
        self.labels = (np.arange(60) % 3)[first:last]

    def __len__(self):
        return len(self.images)

    def read(self, indices):
        return self.images[indices]

    def digest(self):
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()


def load(root, *, contrast: float = 1.0):
    return Dataset(3, 1, 4, 4, False, (0.5,), (0.3,), train=lambda: Source(0, 40), test=lambda: Source(40, 60))
'''
