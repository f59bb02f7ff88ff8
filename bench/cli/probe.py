"""The verb `probe`: what networks that know the data set see in condensed sets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import DATA, FORMAT, PLUGIN, STORE, condensed_sets
from bench.errors import UserError
from bench.places import absolute_path

if TYPE_CHECKING:
    from bench.artifacts.refs import Workspace
    from bench.trials.trial import Trial

GROUP = "look"


@click.command()
@condensed_sets
@click.option("--plan", metavar="FILE", help="The sets of a plan (TOML) instead of the options above.")
@click.option("--replicate", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--observer",
    "names",
    multiple=True,
    metavar="RECIPE",
    help="A teacher recipe; repeatable [default: the data set's].",
)
@click.option(
    "--crop-scale",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Smallest share of the area of a random crop; 1 shows whole images.",
)
@click.option("--crops", type=click.IntRange(min=1), default=1, show_default=True, help="Of each image.")
@click.option("--shape", is_flag=True, help="Also gradient and Hessian of the observer's loss on the set.")
@click.option(
    "--scores", is_flag=True, help="Instead: how the methods' scores are spread, and over which classes their ends."
)
@click.option("--spectra", is_flag=True, help="Instead: singular values and effective rank of the sets' soft labels.")
@click.option("--results", metavar="DIR", help="With --spectra: records that tell what students lose by --drop.")
@click.option("--drop", multiple=True, metavar="C@B", help="A compressor and its budget, such as rpca@30x; repeatable.")
@click.option("--landscape", type=click.IntRange(min=3), metavar="N", help="Also the loss on a grid of N x N points.")
@click.option(
    "--out", metavar="DIR", help="Folder of tables and figures: values of every image, histograms, landscapes."
)
@FORMAT
@STORE
@DATA
@PLUGIN
def command(
    *,
    plan: str | None,
    datasets: Sequence[str],
    methods: Sequence[str],
    ipcs: Sequence[int],
    protocols: Sequence[str],
    replicate: int,
    names: Sequence[str],
    crop_scale: float,
    crops: int,
    shape: bool,
    scores: bool,
    spectra: bool,
    results: str | None,
    drop: Sequence[str],
    landscape: int | None,
    out: str | None,
    format_: str,
    store: str | None,
    plugins: Sequence[str],
) -> int:
    """Show what observers see in condensed sets: entropy, likelihood, and the shape of their loss.

    An observer learnt the training split and nothing of the set. Exit code 1 if a method failed.

    \b
    condensebench probe --dataset mnist5k --method random --method el2n --method sre2l --ipc 10
    condensebench probe --dataset digits --method random --method edc --ipc 10 --shape --landscape 21 --out probe
    condensebench probe --dataset glyphs --method el2n --method forgetting --ipc 10 --scores --out scores
    condensebench probe --dataset glyphs --method random --method score --ipc 1 --spectra
    """
    if landscape and not out:
        raise UserError("--landscape writes files: type --out FOLDER too.")
    if scores and (shape or landscape or names or crop_scale < 1):
        raise UserError("--scores shows what methods rank images by; observers, crops and shapes are another probe.")
    if spectra and (scores or shape or landscape or names or crop_scale < 1 or replicate):
        raise UserError("--spectra shows labels of replicate 0; observers, crops, shapes and scores are another probe.")
    if (results or drop) and not (spectra and results and drop):
        raise UserError("--results and --drop go together with --spectra: --spectra --results DIR --drop rpca@30x.")
    if crops > 1 and crop_scale == 1:
        raise UserError("--crops shows several crops of an image: type --crop-scale too, for instance 0.08.")
    from bench.driver.defaults import default_device, make_plan, work_as_runs_do
    from bench.plugins.registry import discover

    registry = discover(plugins)
    chosen = make_plan(plan=plan, datasets=datasets, methods=methods, ipcs=ipcs, protocols=protocols)
    work_as_runs_do(registry, [each for grid in chosen.grids for each in grid.datasets])
    from bench.artifacts.refs import Workspace
    from bench.driver.outcome import attempt
    from bench.seeds import torch_generator
    from bench.studies.pictures.condensed_sets import Opened, named_sets
    from bench.studies.probes import observed, probe_figures
    from bench.studies.probes.probe_table import Probe, rendered

    if spectra:
        trials = chosen.trials(registry)
        return _spectra(Workspace(_place(store), registry, default_device()), trials, results, drop, out, format_)
    sets = named_sets(registry, plan=plan, datasets=datasets, methods=methods, ipcs=ipcs, protocols=protocols)
    ws = Workspace(_place(store), registry, default_device())
    opened = Opened(ws, sets)
    folder = Path(out) if out else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    if scores:
        from bench.studies.probes.image_scores import image_scores, rendered_scores

        scored = [image_scores(ws, name, opened.dataset(name), opened.teacher(name)) for name in sets]
        print(rendered_scores(scored, format_))
        for path in probe_figures.write_scores(scored, folder) if folder else ():
            print(path, file=sys.stderr)
        return 0
    datasets_of_sets = {name.dataset: opened.dataset(name) for name in sets}
    observers = {dataset: observed.observers(ws, ref, names) for dataset, ref in datasets_of_sets.items()}
    views, probes, failed = observed.Crops(crop_scale, crops), list[Probe](), 0
    for name in sets:
        outcome = attempt(opened.condense, name, replicate)
        if outcome.status != "ok":
            failed += 1
            place = f"{name.dataset} ipc={name.ipc} {name.method}"
            print(f"failed: {place}: {outcome.error_type}: {outcome.message}", file=sys.stderr)
            continue
        dataset, shown = opened.dataset(name), observed.opened(ws, outcome.value)
        for observer in observers[name.dataset]:
            seen = observed.seen(observer, shown, dataset, views, ws.device)
            shaped = observed.shape(observer, shown, ws.described(dataset), ws.device) if shape else None
            probes.append(Probe(name, replicate, observer, views, seen, shaped))
            if landscape and folder:
                plane = observed.loss_shape(observer, shown, ws.device).landscape(
                    landscape, 1.0, torch_generator("probe-plane")
                )
                for path in probe_figures.write_landscape(
                    plane, folder / f"landscape-{probe_figures.stem_of(probes[-1])}"
                ):
                    print(path, file=sys.stderr)
    if probes:
        print(rendered(probes, format_))
        if folder:
            print(probe_figures.write_images(probes, folder / "images.csv"), file=sys.stderr)
            print(probe_figures.draw_histograms(probes, folder / "histograms.png"), file=sys.stderr)
            (folder / "probe.csv").write_text(rendered(probes, "csv"), encoding="utf-8")
    return int(failed > 0)


def _place(store: str | None) -> Path:
    """The store that is named, or the usual one."""
    from bench.driver.defaults import default_store

    return absolute_path(store or default_store())


def _spectra(
    ws: Workspace, trials: Sequence[Trial], results: str | None, drop: Sequence[str], out: str | None, format_: str
) -> int:
    """Print the spectra of the labels of every condensed set among some trials."""
    from bench.records import files
    from bench.studies.label_sets.trial_labels import trial_labelling
    from bench.studies.probes.label_spectra import LabelsName, Probed, drops, rendered_spectra, spectra
    from bench.studies.probes.probe_figures import draw_spectra

    records = files.required(files.scan(results), results).records if results else []
    stored = [trial for trial in trials if trial.compressor is not None] or trials  # without any the first tells why
    names = dict.fromkeys(LabelsName(each.dataset, each.protocol, each.method, each.ipc) for each in stored)
    probed = []
    for name in names:
        labelling = trial_labelling(ws, name.dataset, name.protocol, name.method, name.ipc, purpose="look at")
        probed.append(Probed(name, *spectra(labelling), drops(name, records, drop)))
    print(rendered_spectra(probed, format_))
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spectra.csv").write_text(rendered_spectra(probed, "csv"), encoding="utf-8")
        print(draw_spectra(probed, folder / "spectra.png"), file=sys.stderr)
    return 0
