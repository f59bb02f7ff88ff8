"""The labels that a trial would have, as a label set."""

from __future__ import annotations

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.driver.defaults import DEFAULT_PROTOCOLS
from bench.errors import UserError
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.stages.condense import condense
from bench.stages.label import Labelling
from bench.stages.teach import teach
from bench.studies.label_sets.label_sources import TrialLabels


def trial_labels(ws: Workspace, dataset: str, protocol_id: str, method: str, ipc: int) -> TrialLabels:
    """The labels of `trial_labelling` as a label set. Raises UserError as that does."""
    return TrialLabels(trial_labelling(ws, dataset, protocol_id, method, ipc))


def trial_labelling(
    ws: Workspace, dataset: str, protocol_id: str, method: str, ipc: int, purpose: str = "compress"
) -> Labelling:
    """The labels of replicate 0 of a trial with the protocol's own student. `purpose`: what they are for, in messages.

    Raises:
        UserError: a name or value that is not known; the protocol stores no labels for this data set.
    """
    spec = str(parse(ws.registry, "dataset", dataset))
    chosen = str(parse(ws.registry, "method", method))
    fixed = definition.load(ws.registry, protocol_id)
    if (regime := fixed.labels(spec)) != "stored":
        raise UserError(
            f"--protocol {protocol_id}: its labels are {regime}, there is nothing to {purpose}. Type for instance "
            f"--protocol {DEFAULT_PROTOCOLS[0]}."
        )
    described = describe(ws, spec)
    labellers = [teach(ws, name, described) for name in fixed.teachers(spec)]
    recipe = fixed.recipe(dataset=spec, ipc=ipc, student=fixed.student(spec), classes=described.classes)
    condensed = condense(ws, chosen, described, labellers[0], ipc, 0, balanced=recipe.class_balance == "equal")
    return Labelling(ws, fixed.id, recipe, described, labellers, condensed)
