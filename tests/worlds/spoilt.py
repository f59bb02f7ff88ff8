"""Plugins with one fault each, by what is wrong with them: the good ones of `_planted`, changed in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.worlds.planted import COMPRESSOR, DATASET, DRAWN, LABELLED, MADE, METHOD, SHARED

FEATURES = "    features = np.asarray(ctx.features())\n"  # a line of METHOD
TAKE = "own[:ipc]"
DOCSTRING = METHOD.strip().splitlines()[0]
RETURN = "    return HEAD.pack"  # COMPRESSOR's encode


@dataclass(frozen=True)
class Spoilt:
    """`good` with each text in `changes` replaced, which breaks `rule`; `told` is part of what is found."""

    rule: str
    good: str
    changes: dict[str, str] = field(default_factory=dict)
    told: str = ""

    def source(self) -> str:
        text = self.good
        for old, new in self.changes.items():
            assert old in text, f"nothing to spoil: {old}"
            text = text.replace(old, new)
        return text


def does(line: str) -> dict[str, str]:
    """METHOD with a line more, and the imports that it may need."""
    imports = "import gc, os, pathlib, random, sys, tempfile\nimport numpy as np\nimport torch\n"
    return {"import numpy as np\n": imports, FEATURES: f"{FEATURES}    {line}\n"}


def takes(expression: str) -> dict[str, str]:
    """METHOD with other picks."""
    return {"import numpy as np\n": "import os, random\nimport numpy as np\nimport torch\n", TAKE: expression}


SPOILT = {
    # what a plugin says of itself
    "has no docstring": Spoilt("is-described", METHOD, {DOCSTRING: ""}),
    "swallows keywords": Spoilt("takes-what-it-declares", METHOD, {"share: float = 0.5": "**rest"}, "keywords"),
    "takes a parameter by position": Spoilt("takes-what-it-declares", METHOD, {"ctx, *,": "ctx, more=1, *,"}, "more"),
    "has a default with a comma": Spoilt(
        "parameters-survive-a-spec-and-json", METHOD, {'"first", share': '"first", also: str = "a,b", share'}, "also"
    ),
    "runs with a mistyped word": Spoilt(
        "mistyped-words-are-refused", METHOD, {"raise ValueError(f": "print(f"}, "in silence"
    ),
    "stumbles over a mistyped word": Spoilt(
        "mistyped-words-are-refused", METHOD, {"raise ValueError(f": "raise KeyError(f"}, "KeyError"
    ),
    # exactly ipc images per class
    "hands in an image too few": Spoilt("exact-images-per-class", METHOD, takes("own[: ipc - 1]"), "ipc = 1 images"),
    "hands in an image too many": Spoilt("exact-images-per-class", METHOD, takes("own[: ipc + 1]")),
    "never takes all of a class": Spoilt("exact-images-per-class", METHOD, takes("own[: min(ipc, 6)]"), "ipc 7"),
    "returns floats": Spoilt("keeps-the-contract", METHOD, {"np.concatenate(picked)": "np.concatenate(picked) * 1.0"}),
    "makes float images": Spoilt("keeps-the-contract", MADE, {".to(torch.uint8)": ".double()"}, "images must be uint8"),
    "leaves images normalised": Spoilt("keeps-the-contract", MADE, {".to(torch.uint8)": " / 255"}, "std + mean"),
    "takes every image for grey": Spoilt("keeps-the-contract", MADE, {"(mean + noise)": "(mean + noise)[:, :1]"}),
    "keeps an array in its provenance": Spoilt("keeps-the-contract", MADE, {"(0, 255)}": "torch.ones(2)}"}, "JSON"),
    "has numbers as keys of its provenance": Spoilt("keeps-the-contract", MADE, {'"range"': "1"}, "comes back as"),
    "has NaN in its provenance": Spoilt("keeps-the-contract", MADE, {"(0, 255)}": "float('nan')}"}, "JSON"),
    "needs two classes": Spoilt("one-class-is-enough", METHOD, does("ctx.logits()[:, 1]"), "IndexError"),
    "needs images that differ": Spoilt(
        "duplicates-are-served", METHOD, does("assert len(np.unique(features, axis=0)) == len(features)")
    ),
    "divides by the spread of the features": Spoilt(
        "equal-images-are-served", METHOD, does("assert features.std(axis=0).max() > 1e-4, 'no spread'"), "no spread"
    ),
    "repeats images of a small class": Spoilt(
        "too-many-per-class-are-refused", METHOD, {"if len(own) < ipc": "if 0", TAKE: "np.resize(own, ipc)"}
    ),
    "repeats made images of a small class": Spoilt(
        "too-many-per-class-are-refused",
        MADE,
        {"images.append(": "noise = noise[torch.arange(ipc) % len(own)]\n        images.append("},
        "more than once",
    ),
    "says of a small class only that it cannot": Spoilt(
        "too-many-per-class-are-refused", METHOD, {"class {label} has {len(own)} images, too few for ipc {ipc}": "no!"}
    ),
    "stumbles over a class without images": Spoilt(
        "a-class-without-images-is-refused", METHOD, {"        if len(own) < ipc:": "        own[0]\n        if False:"}
    ),
    # seeds
    "draws from the system": Spoilt(
        "gives-the-same-twice", METHOD, takes("own[np.argsort(list(os.urandom(len(own))))][:ipc]")
    ),
    "draws from a generator of its own": Spoilt(
        "gives-the-same-twice", METHOD, takes("np.random.default_rng().permutation(own)[:ipc]")
    ),
    "remembers the last call": Spoilt(
        "gives-the-same-twice",
        METHOD,
        {"import numpy as np\n": "import numpy as np\n\nCALLS = []\n", FEATURES: f"{FEATURES}    CALLS.append(1)\n"}
        | {TAKE: "np.roll(own, len(CALLS))[:ipc]"},
        "two calls",
    ),
    "depends on the scratch folder's name": Spoilt(
        "gives-the-same-twice", METHOD, takes("np.random.default_rng(list(bytes(ctx.scratch))).permutation(own)[:ipc]")
    ),
    "asks for a generator and ignores it": Spoilt(
        "other-seeds-give-other-images", METHOD, does("ctx.numpy('draw')"), "replicates are the same"
    ),
    "draws from numpy's global generator": Spoilt(
        "leaves-global-generators-alone", METHOD, takes("np.random.permutation(own)[:ipc]"), "numpy.random"
    ),
    "draws from Python's global generator": Spoilt(
        "leaves-global-generators-alone", METHOD, takes("np.roll(own, random.randrange(7))[:ipc]"), "random"
    ),
    "draws from torch's global generator": Spoilt(
        "leaves-global-generators-alone", METHOD, takes("np.roll(own, int(torch.randint(7, (1,))))[:ipc]"), "torch"
    ),
    "seeds torch's global generator": Spoilt(
        "leaves-global-generators-alone", METHOD, does("torch.manual_seed(0)"), "moved the global generator of torch"
    ),
    "draws from a global generator and puts it back": Spoilt(
        "leaves-global-generators-alone",
        METHOD,
        does("state = random.getstate(); shift = random.randrange(7); random.setstate(state)")
        | {TAKE: "np.roll(own, shift)[:ipc]"},
        "seeded differently",
    ),
    # the process, the data, files
    "changes the folder": Spoilt("leaves-the-process-as-it-was", METHOD, does("os.chdir('..')"), "the current folder"),
    "sets an environment variable": Spoilt(
        "leaves-the-process-as-it-was", METHOD, does("os.environ['MINE'] = '1'"), "variable MINE"
    ),
    "sets torch's default dtype": Spoilt(
        "leaves-the-process-as-it-was", METHOD, does("torch.set_default_dtype(torch.float64)"), "default dtype"
    ),
    "sets torch's threads": Spoilt(
        "leaves-the-process-as-it-was", METHOD, does("torch.set_num_threads(torch.get_num_threads() + 1)"), "threads"
    ),
    "turns gradients off": Spoilt(
        "leaves-the-process-as-it-was", METHOD, does("torch.set_grad_enabled(False)"), "grad mode"
    ),
    "silences numpy": Spoilt("leaves-the-process-as-it-was", METHOD, does("np.seterr(all='ignore')"), "numpy's error"),
    "writes labels": Spoilt(
        "leaves-what-it-is-given-as-it-was",
        METHOD,
        does("train.labels.flags.writeable = True; train.labels[0] = 1 - train.labels[0]"),
        "the training labels",
    ),
    "writes images": Spoilt(
        "leaves-what-it-is-given-as-it-was", METHOD, does("train._source._images[0] = 0"), "the training images"
    ),
    "leaves the teacher in train mode": Spoilt(
        "leaves-what-it-is-given-as-it-was", METHOD, does("ctx.teacher.train()"), "the teacher's mode or hooks"
    ),
    "leaves a hook on the teacher": Spoilt(
        "leaves-what-it-is-given-as-it-was",
        METHOD,
        does("ctx.teacher.register_forward_hook(lambda *given: None)"),
        "hooks",
    ),
    "trains the teacher": Spoilt(
        "leaves-what-it-is-given-as-it-was",
        METHOD,
        does("next(ctx.teacher.parameters()).data.mul_(0.9)"),
        "the teacher's weights",
    ),
    "writes into the current folder": Spoilt(
        "leaves-no-files", METHOD, does("pathlib.Path('cache.npy').write_bytes(b'1')"), "current/cache.npy"
    ),
    "leaves a temporary file": Spoilt("leaves-no-files", METHOD, does("tempfile.mkstemp(suffix='.mine')"), ".mine"),
    # the test split
    "opens the test split through its context": Spoilt(
        "has-no-way-to-the-test-split", METHOD, does("ctx._data.dataset.test()"), "it opened the test split"
    ),
    "opens the test split and hides the refusal": Spoilt(
        "has-no-way-to-the-test-split",
        METHOD,
        does("try:\n        ctx._data.test_images()\n    except Exception:\n        pass"),
        "it opened the test split",
    ),
    "loads its data set again": Spoilt(
        "has-no-way-to-the-test-split",
        METHOD,
        does("ctx._data.spec.plugin.module.load(ctx._data.root).test().read(np.arange(2))"),
        "opened the test split of its data set",
    ),
    "finds the test split among all objects": Spoilt(
        "has-no-way-to-the-test-split",
        METHOD,
        does(
            "[o.test() for o in gc.get_objects()"
            " if type(o).__name__ == 'Dataset' and o.test.__name__ in ('open_test', 'noting')]"
        ),
        "opened the test split of its data set",
    ),
    "imports a data set by name": Spoilt(
        "has-no-way-to-the-test-split",
        METHOD,
        does("__import__('protocols.datasets.digits', fromlist=['load']).load(None)"),
        "protocols/datasets/digits.py",
    ),
    "loads the data where the data set has them from": Spoilt(
        "has-no-way-to-the-test-split",
        METHOD,
        does("__import__('sklearn.datasets').datasets.load_digits()"),
        "it called load_digits of sklearn.datasets",
    ),
    # class numbers
    "picks by the class's number": Spoilt(
        "class-numbers-do-not-matter", METHOD, takes("np.roll(own, label)[:ipc]"), "of the class called 0"
    ),
    "draws otherwise for class 0": Spoilt(
        "class-numbers-do-not-matter", DRAWN, {"rng.permutation(own)": "np.roll(rng.permutation(own), label == 0)"}
    ),
    "makes class 0 darker": Spoilt(
        "class-numbers-do-not-matter", MADE, {"(mean + noise)": "(mean + noise - 9 * (label == 0))"}, "by 9"
    ),
    # labels that a method hands in
    "hands in a label too few": Spoilt(
        "keeps-the-contract", LABELLED, {"soft_labels=soft": "soft_labels=soft[1:]"}, "[3, 3]"
    ),
    "hands in whole numbers as labels": Spoilt(
        "keeps-the-contract", LABELLED, {"soft_labels=soft": "soft_labels=soft.int()"}, "it returned int32"
    ),
    "hands in the logarithm of nothing": Spoilt(
        "keeps-the-contract", LABELLED, {"soft_labels=soft": "soft_labels=(soft - soft).log()"}, "must be finite; row 0"
    ),
    "labels by the class's number": Spoilt(
        "class-numbers-do-not-matter",
        LABELLED,
        {"soft = own": "soft = torch.arange(3.0) + own"},
        "soft_labels differ by",
    ),
    # what comes back from a compressor
    "returns a bytearray": Spoilt("what-comes-back-fits", COMPRESSOR, {RETURN: "    return bytearray(1) + HEAD.pack"}),
    "returns whole numbers": Spoilt(
        "what-comes-back-fits", COMPRESSOR, {"values[:, chosen]": "values[:, chosen].int()"}
    ),
    "returns NaN": Spoilt("what-comes-back-fits", COMPRESSOR, {"values[:, chosen]": "values[:, chosen] * np.nan"}),
    "forgets an axis": Spoilt(
        "what-comes-back-fits", COMPRESSOR, {"values[:, chosen]": "values[:, chosen].flatten(1)"}
    ),
    "swaps the views": Spoilt(
        "plenty-of-bytes-give-the-labels-back", COMPRESSOR, {"values[:, :views]": "values[:, :views][:, ::-1]"}
    ),
    "swaps two images": Spoilt(
        "plenty-of-bytes-give-the-labels-back",
        COMPRESSOR,
        {"values[:, :views]": "np.roll(values, 1, axis=0)[:, :views]"},
    ),
    "sorts the rows": Spoilt("rows-are-those-of-the-whole", COMPRESSOR, {"else list(rows)": "else sorted(rows)"}),
    "drops repeated rows": Spoilt(
        "rows-are-those-of-the-whole", COMPRESSOR, {"else list(rows)": "else list(dict.fromkeys(rows))"}, "twice"
    ),
    "counts rows from the end": Spoilt(
        "rows-are-those-of-the-whole", COMPRESSOR, {"not 0 <= row <": "not -9 <= row <"}, "rows=[-1]"
    ),
    "names rows backwards": Spoilt(
        "stored-views-are-told",
        COMPRESSOR,
        {"np.arange(parts(blob).shape[1])": "np.arange(parts(blob).shape[1])[::-1]"},
    ),
    "names rows in 32 bits": Spoilt(
        "stored-views-are-told", COMPRESSOR, {"parts(blob).shape[1])": "parts(blob).shape[1], dtype=np.int32)"}, "int32"
    ),
    "names fewer rows than it gives": Spoilt(
        "stored-views-are-told", COMPRESSOR, {"np.arange(parts(blob).shape[1])": "np.arange(1)"}, "does not name view 1"
    ),
    "counts what it did not": Spoilt(
        "what-it-counts-is-a-count",
        COMPRESSOR,
        {"def rows(": "def invalid(blob):\n    return (1.5, 0)\n\n\ndef rows("},
        "1.5",
    ),
    "counts more rows than there are": Spoilt(
        "what-it-counts-is-a-count",
        COMPRESSOR,
        {"def rows(": "def invalid(blob):\n    return (0, 10**9)\n\n\ndef rows("},
        "1000000000 rows",
    ),
    "adds noise when decoding": Spoilt(
        "decodes-the-same-twice", COMPRESSOR, {"return values[:, chosen]": "return values[:, chosen] + torch.rand(1)"}
    ),
    "keeps the labels in memory": Spoilt(
        "decodes-the-same-twice",
        COMPRESSOR,
        {"HEAD =": "KEPT = {}\nHEAD =", RETURN: "    KEPT[0] = torch.from_numpy(values).float()\n    return HEAD.pack"}
        | {"    values = parts(blob)": "    parts(blob)\n    values = KEPT[0]"},
        "in a process that did not encode it",
    ),
    "encodes otherwise every time": Spoilt(
        "gives-the-same-twice",
        COMPRESSOR,
        {"HEAD =": "CALLS = []\nHEAD =", RETURN: "    CALLS.append(1)\n    return HEAD.pack"}
        | {"values[:, :views].tobytes()": "(values + np.float16(len(CALLS)))[:, :views].tobytes()"},
    ),
    # bytes
    "exceeds the budget": Spoilt(
        "budget-is-never-exceeded", COMPRESSOR, {"- HEAD.size) // (2": ") // (2"}, "for a budget of"
    ),
    "fails where it cannot fit": Spoilt(
        "budget-is-never-exceeded", COMPRESSOR, {"raise InfeasibleError(HEAD": "raise ValueError(HEAD"}, "ValueError"
    ),
    "forgets the shared part": Spoilt(
        "the-smallest-size-is-true",
        SHARED,
        {"    if size > budget_bytes:\n        raise InfeasibleError(size)\n    s": "    s"},
    ),
    "says that its size is fixed, and it is not": Spoilt(
        "budget-is-never-exceeded", COMPRESSOR, {"HEAD =": "TAKES_BUDGET = False\nHEAD ="}, "TAKES_BUDGET is False"
    ),
    "names a smallest size that is too small": Spoilt(
        "the-smallest-size-is-true", COMPRESSOR, {"InfeasibleError(HEAD.size + 2": "InfeasibleError(2"}, "as enough"
    ),
    "names a smallest size that is too large": Spoilt(
        "the-smallest-size-is-true", COMPRESSOR, {"InfeasibleError(HEAD": "InfeasibleError(1 + HEAD"}, "do as well"
    ),
    "loses views with more bytes": Spoilt(
        "more-bytes-are-never-worse",
        COMPRESSOR,
        {"    if views < 1": "    if budget_bytes > 9000:\n        views = 3\n    if views < 1"},
        "hold 3 views",
    ),
    "is less exact with more bytes": Spoilt(
        "more-bytes-are-never-worse",
        COMPRESSOR,
        {"values[:, :views].tobytes()": "(values + np.float16(budget_bytes > 20000))[:, :views].tobytes()"},
        "squared error",
    ),
    # awkward labels, broken labels, broken bytes
    "needs several views": Spoilt(
        "degenerate-labels-come-back",
        COMPRESSOR,
        {"    views = min(": "    1 // (k - 1)\n    views = min("},
        "one view",
    ),
    "needs a label above zero": Spoilt(
        "degenerate-labels-come-back",
        COMPRESSOR,
        {"    views = min(": "    assert values.any(), 'nothing to scale by'\n    views = min("},
        "all zero: it ends with AssertionError: nothing to scale by",
    ),
    "clips the labels": Spoilt(
        "degenerate-labels-come-back",
        COMPRESSOR,
        {"values[:, :views].tobytes()": "values[:, :views].clip(-999, 999).tobytes()"},
        "the largest float16",
    ),
    "encodes NaN": Spoilt(
        "labels-that-are-not-finite-are-refused", COMPRESSOR, {"if not np.isfinite(values).all()": "if 0"}
    ),
    "refuses NaN without a place": Spoilt(
        "labels-that-are-not-finite-are-refused", COMPRESSOR, {"not finite at image {image}, view": "NaN in view"}
    ),
    "ignores its checksum": Spoilt(
        "damaged-blobs-are-errors", COMPRESSOR, {"zlib.crc32(body) != crc or": ""}, "Add a checksum"
    ),
    "ignores damage to what is shared": Spoilt(
        "damaged-blobs-are-errors",
        SHARED,
        {"np.frombuffer(opened(shared)": "np.frombuffer(shared[4:]"},
        "shared flipped",
    ),
    "overwrites the labels": Spoilt(
        "leaves-what-it-is-given-as-it-was",
        COMPRESSOR,
        {RETURN: "    labels.logits[0] = 0\n    return HEAD.pack"},
        "logits",
    ),
    "draws views from a global generator": Spoilt(
        "leaves-global-generators-alone", COMPRESSOR, {RETURN: "    np.random.permutation(k)\n    return HEAD.pack"}
    ),
    # data sets
    "has a test image in the training split": Spoilt(
        "splits-are-disjoint", DATASET, {"Source(40, 60)": "Source(39, 60)"}, "the first is test image 0"
    ),
    "has labels of 32 bits": Spoilt(
        "labels-are-classes", DATASET, {"np.arange(60) % 3": "np.arange(60, dtype='i4') % 3"}
    ),
    "has labels out of range": Spoilt(
        "labels-are-classes", DATASET, {"np.arange(60) % 3": "np.arange(60) % 4"}, "0..2"
    ),
    "has a class without images": Spoilt("labels-are-classes", DATASET, {"np.arange(60) % 3": "np.arange(60) % 2"}),
    "announces another size": Spoilt(
        "images-have-the-size-announced", DATASET, {"(3, 1, 4, 4": "(3, 1, 8, 8"}, "8, 8]"
    ),
    "reads in ascending order": Spoilt(
        "images-have-the-size-announced", DATASET, {"self.images[indices]": "self.images[np.sort(indices)]"}, "order"
    ),
    "hands out its own pixels": Spoilt(
        "images-have-the-size-announced",
        DATASET,
        {"self.images[indices]": "self.images[indices if len(indices) != 2 else slice(0, 2)]"},
        "Return a copy",
    ),
    "changes at every load": Spoilt("digest-is-stable", DATASET, {"default_rng(0)": "default_rng()"}),
    "has one digest for all": Spoilt(
        "digest-is-stable", DATASET, {"hashlib.sha256(self": "'d' or hashlib.sha256(self"}
    ),
    "has a standard deviation of zero": Spoilt("says-what-it-is", DATASET, {"(0.3,)": "(0.0,)"}),
    "has the mean of colour images": Spoilt("says-what-it-is", DATASET, {"(0.5,)": "(0.5, 0.5, 0.5)"}, "1 channels"),
}
