"""The labels of one condensed set under one protocol: made by its teachers, shard by shard, and encoded."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from bench.api import SoftLabels, Survey
from bench.artifacts.artifact_file import hand_back
from bench.artifacts.pixels import mapped_tensor, refuse_operations_on_floats
from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace, read_condensed
from bench.confinement.process import PluginProcess
from bench.engine import ENGINE_VERSION
from bench.errors import InfeasibleError
from bench.labels.adapter import encode, fit, takes_shared
from bench.labels.kept_labels import RAW, kept_set
from bench.labels.label_file import LabelFile, blob_allowance, shards, smallest_total
from bench.labels.making import label_views, teacher_logits
from bench.machine import hand_back_freed_memory
from bench.plugins.spec import Spec
from bench.protocol.options import seeded_as
from bench.protocol.recipe import Recipe
from bench.seeds import Coordinate
from bench.stages.context import HarnessContext
from bench.stages.foreign_codec import codec_of
from bench.teachers import loaded
from bench.teachers.ensemble import Ensemble, ensemble_of, view_norms
from bench.teachers.teacher_files import TeacherRef
from bench.trials.budget import Budget, reference_bytes


class Labelling:
    """The labels of one condensed set.

    Shards of one set carry the labels that the whole set would get: where a label depends on its batch, a shard asks
    for the stored batches of the whole set (bench.teachers.ensemble.label_view tells the cost). For norm-mean over
    several shards the norms of all stored batches are taken once and kept in the store.
    """

    def __init__(
        self,
        ws: Workspace,
        protocol_id: str,
        recipe: Recipe,
        dataset: DatasetRef,
        labellers: Sequence[TeacherRef],
        condensed: CondensedRef,
    ) -> None:
        self.ws, self.protocol_id, self.recipe, self.dataset = ws, protocol_id, recipe, dataset
        self.labellers, self.condensed = tuple(labellers), condensed
        self.set = read_condensed(ws, condensed)
        refuse_operations_on_floats(self.set.arrays["images"], recipe)
        self.views = label_views(
            recipe,
            condensed.images,
            protocol=seeded_as(protocol_id),
            dataset=dataset.spec,
            size=dataset.size,
            mirror=dataset.mirror,
        )
        self.process: PluginProcess | None = None  # of a compressor that a plugin gives, once it has encoded
        self.shards = list(shards(condensed.images, recipe.views, dataset.classes))

    @cached_property
    def ensemble(self) -> Ensemble:
        """The teachers, loaded."""
        data = self.ws.described(self.dataset)
        members = [
            loaded.member(ref, self.ws.store, self.ws.registry, data, device=self.ws.device) for ref in self.labellers
        ]
        return ensemble_of(members, self.recipe)

    @cached_property
    def images(self) -> torch.Tensor:
        """uint8 or float [N, channels, size, size] on the device: the whole condensed set, mapped on a CPU."""
        return mapped_tensor(self.set.arrays["images"]).to(self.ws.device)

    def raw(self, shard: int) -> SoftLabels:
        """float16 logits of a shard: made once and kept in the store within the limit of raw labels, else made and
        dropped."""
        indices = self.shards[shard]
        if self._kept:
            kept = self._shard_in_store(shard)
            logits = np.array(kept)
            hand_back(kept)
        else:
            logits = self._made(indices).numpy()
        return SoftLabels(
            logits=torch.from_numpy(logits),
            hard=self._hard(indices),
            views=self.views,
            images=indices,
        )

    def _made(self, indices: np.ndarray, some: Sequence[int] | None = None) -> torch.Tensor:
        """float16 [n, views, C] of these images, made now; `some`: of these views alone."""
        return teacher_logits(self.ensemble, self.images, self.views, indices, self.norms(), some)

    def _shard_in_store(self, shard: int) -> np.ndarray:
        """float16 [n, views, C], mapped; made now where it is not there yet."""

        def make() -> tuple[dict[str, Any], dict[str, Any]]:
            return {"logits": self._made(self.shards[shard]).numpy()}, {}

        return self.ws.store.get(RAW, self._shard_inputs(shard), make).arrays["logits"]

    def _shard_inputs(self, shard: int) -> dict[str, object]:
        return {**self._inputs(), "shard": shard}

    @cached_property
    def _kept(self) -> bool:
        """Whether raw labels stay in the store."""
        size = self.condensed.images * self.recipe.views * self.dataset.classes * 2
        name = f"{self.dataset.spec}, {self.condensed.images} images x {self.recipe.views} views, {self.protocol_id}"
        return kept_set(self.ws.store, name, self._inputs(), map(self._shard_inputs, range(len(self.shards))), size)

    @property
    def survey(self) -> Survey | None:
        """Some views of all images, see bench.api.Survey; None where a single shard has them all."""
        return self._some_views if len(self.shards) > 1 else None

    def _some_views(self, views: Sequence[int]) -> Iterator[SoftLabels]:
        shown = [self.views[k] for k in views]
        for shard, indices in enumerate(self.shards):
            if self._kept:
                kept = self._shard_in_store(shard)
                logits = torch.from_numpy(kept[:, list(views)])
                hand_back(kept)
            else:
                logits = self._made(indices, views)
            yield SoftLabels(logits, self._hard(indices), shown, indices)

    def _hard(self, indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(self.set.arrays["labels"]))[indices]

    def norms(self) -> torch.Tensor | None:
        """float32 [views, teachers, batches] where shards need them, else None."""
        if len(self.shards) == 1 or not self.ensemble.norm_mean or self.ensemble.train_mode:
            return None

        def make() -> tuple[dict[str, Any], dict[str, Any]]:
            norms = [view_norms(self.ensemble, self.images, self.views, k).cpu() for k in range(len(self.views))]
            return {"norms": torch.stack(norms).numpy()}, {}

        return torch.from_numpy(np.array(self.ws.store.get("label-norms", self._inputs(), make).arrays["norms"]))

    def _inputs(self) -> dict[str, object]:
        """What decides the raw labels, apart from the shard."""
        return {
            "engine": ENGINE_VERSION,
            "condensed": self.condensed.address,
            "teachers": [ref.identity for ref in self.labellers],
            "ensemble": self.recipe.ensemble,
            "teacher_mode": self.recipe.teacher_mode,
            "views": self.views.to_bytes().decode(),
        }

    def _coordinates(self, spec: Spec) -> tuple[Coordinate, ...]:
        return ("encode", str(spec), self.protocol_id, self.dataset.spec, self.condensed.images)

    @contextlib.contextmanager
    def context(self, spec: Spec) -> Iterator[HarnessContext]:
        """What a call of this compressor is given; its scratch folder is removed afterwards."""
        with self.ws.store.scratch() as scratch:
            yield HarnessContext(
                store=self.ws.store,
                registry=self.ws.registry,
                data=self.ws.described(self.dataset),
                dataset_digest=self.dataset.digest,
                teacher=self.labellers[0],
                coordinates=self._coordinates(spec),
                scratch=scratch,
                device=self.ws.device,
            )

    def encode_shard(self, spec: Spec, budget: str | None, shard: int, shared: bytes | None = None) -> LabelFile:
        """One shard as a label file of its own. `shared`: of the first shard's, for the others; it is fitted there.

        Raises:
            InfeasibleError: the budget cannot hold the smallest code; the message counts the whole label file.
        """
        n, k, c = self.condensed.images, self.recipe.views, self.dataset.classes
        total = reference_bytes(n, k, c) if budget is None else Budget.parse(budget).total_bytes(n, k, c)
        views = self.views.to_bytes()
        sizes = [len(s) for s in self.shards]
        coordinates = self._coordinates(spec)
        with (
            self.context(spec) as ctx,
            codec_of(self.ws, spec, self.dataset, self.labellers[0], coordinates) as (module, process),
        ):
            self.process = process
            if not takes_shared(module):
                shared = b""
            elif shared is None:
                assert shard == 0, "what all shards share is fitted with the first"
                shared = fit(module, self.raw(0), total - len(views), ctx, self.survey, **spec.parameters)
                self._hand_back()
            allowance = blob_allowance(total, views=len(views), shared=len(shared), shard_sizes=sizes)[shard]
            try:
                blob = encode(module, self.raw(shard), allowance, ctx, shared, **spec.parameters)
            except InfeasibleError as error:
                # What the whole file would need: every image as much as in this shard, and the overhead.
                needed = smallest_total(
                    error.smallest_bytes, shard, views=len(views), shared=len(shared), shard_sizes=sizes
                )
                raise InfeasibleError(needed, error.why) from None
        self._hand_back()
        return LabelFile(views, shared, (blob,))

    def _hand_back(self) -> None:
        """Of several shards, what one leaves: objects of a compressor that refer to each other stay until they are
        looked for, and their arrays would lie beside the next shard's."""
        if len(self.shards) > 1:
            gc.collect()
            hand_back_freed_memory()
