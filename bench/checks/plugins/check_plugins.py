"""`condensebench check plugins`: every rule that a plugin must keep, checked on tiny data and label sets.

In a test suite of your own:

    import pytest
    from bench.checks.plugins.check_plugins import checks_for, errors

    @pytest.mark.parametrize(("rule", "check"), checks_for("my_method.py"))
    def test_my_method_keeps_the_rules(rule, check):
        assert not errors(check())
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.checks.plugins import awkward_labels, budgets, compressors, conduct, datasets, declared, methods
from bench.checks.plugins.apart import apart
from bench.checks.plugins.kit import WATCH, Check, Subject, findings, rule
from bench.checks.plugins.workshop import Workshop, workshop
from bench.driver.running_stages import Naming, untold
from bench.errors import UserError, unknown
from bench.finding import Finding
from bench.places import absolute_path
from bench.plugins.registry import Plugin, Registry, discover, read

DECLARED: tuple[Check, ...] = (
    declared.is_described,
    declared.is_cited,
    declared.takes_what_it_declares,
    declared.parameters_survive_a_spec_and_json,
    declared.unknown_parameters_are_refused,
    declared.mistyped_words_are_refused,
)
CONDUCT: tuple[Check, ...] = (
    conduct.gives_the_same_twice,
    conduct.leaves_global_generators_alone,
    conduct.leaves_the_process_as_it_was,
    conduct.leaves_what_it_is_given_as_it_was,
    conduct.leaves_no_files,
    conduct.has_no_way_to_the_test_split,
)
CHECKS: dict[str, tuple[Check, ...]] = {
    "method": (
        *DECLARED,
        methods.keeps_the_contract,
        methods.exact_images_per_class,
        methods.one_class_is_enough,
        methods.duplicates_are_served,
        methods.equal_images_are_served,
        methods.too_many_per_class_are_refused,
        methods.a_class_without_images_is_refused,
        *CONDUCT,
        methods.other_seeds_give_other_images,
        methods.class_numbers_do_not_matter,
    ),
    "compressor": (
        *DECLARED,
        compressors.what_comes_back_fits,
        compressors.plenty_of_bytes_give_the_labels_back,
        compressors.rows_are_those_of_the_whole,
        compressors.stored_views_are_told,
        compressors.what_it_counts_is_a_count,
        compressors.decodes_the_same_twice,
        budgets.budget_is_never_exceeded,
        budgets.the_smallest_size_is_true,
        budgets.more_bytes_are_never_worse,
        awkward_labels.degenerate_labels_come_back,
        awkward_labels.labels_that_are_not_finite_are_refused,
        awkward_labels.damaged_blobs_are_errors,
        *CONDUCT,
    ),
    "dataset": (
        *DECLARED[:-1],
        datasets.says_what_it_is,
        datasets.labels_are_classes,
        datasets.images_have_the_size_announced,
        datasets.splits_are_disjoint,
        datasets.digest_is_stable,
        datasets.digest_is_the_released_one,
        conduct.leaves_global_generators_alone,
        conduct.leaves_the_process_as_it_was,
        conduct.leaves_no_files,
    ),
}
_SUBJECTS: dict[str, type[Subject]] = {
    "method": methods.MethodSubject,
    "compressor": compressors.CompressorSubject,
    "dataset": datasets.DatasetSubject,
}
EXCEPTIONS = "known-exceptions"
SMALL_DATASETS = ("digits",)  # checked when no name is given; the others are drawn or larger, and take minutes


def checks_for(plugin: Plugin | str | Path) -> list[tuple[str, Callable[[], list[Finding]]]]:
    """(rule, check) for each check of a plugin, or of the file that holds one; a call makes the check.

    Raises:
        PluginError: the file is no plugin.
        UserError: there is no such file, or nothing checks plugins of this kind.
    """
    return bound(plugin if isinstance(plugin, Plugin) else _from_file(plugin), None)


def errors(results: Iterable[Finding]) -> list[str]:
    """The messages of those findings that are errors: empty where a plugin keeps the rule, or says why not."""
    return [finding.message for finding in results if finding.severity == "error"]


def check_plugins(names: Sequence[str] | None = None, plugin_files: Iterable[str | Path] = ()) -> list[Finding]:
    """All findings on the plugins of these names, of any kind; by default on all methods, all compressors, the small
    data sets and what `plugin_files` hold.

    Raises:
        UserError: nothing that is checked has this name.
    """
    return check_and_count(names or (), plugin_files)[0]


def check_and_count(
    names: Sequence[str], plugin_files: Iterable[str | Path], naming: Naming = untold
) -> tuple[list[Finding], str]:
    """(the findings of `check_plugins`, how many checks of how many plugins). Each plugin is checked in a process of
    its own (bench/checks/plugins/apart.py). `naming`: tells of what is checked. Raises UserError."""
    registry = discover(plugin_files)
    plugins = chosen(registry, names)
    results = check_all(registry, plugins, naming)
    count = sum(len(rules_of(plugin)) for plugin in plugins)
    return results, f"{count} checks of {len(plugins)} plugin{'s' if len(plugins) > 1 else ''}"


def check_all(registry: Registry, plugins: Sequence[Plugin], naming: Naming = untold) -> list[Finding]:
    """All findings on these plugins of a registry, each checked in a process of its own, told by `naming`."""
    if not plugins:
        return []
    with apart(registry, naming) as checker:
        return [finding for plugin in plugins for finding in checker.findings(plugin, rules_of(plugin))]


def rules_of(plugin: Plugin) -> list[str]:
    """The names of a plugin's rules, in the order of `bound`."""
    return [*(rule(check) for check in CHECKS[plugin.kind]), EXCEPTIONS]


def chosen(registry: Registry, names: Sequence[str]) -> list[Plugin]:
    """The plugins of these names, in the order given; without names, see `check_plugins`. Raises UserError."""
    everything = [plugin for kind in CHECKS for plugin in registry.all(kind)]
    if not names:
        return [
            plugin
            for plugin in everything
            if plugin.kind != "dataset" or plugin.name in SMALL_DATASETS or plugin.source is not None
        ]
    for name in names:
        if not any(plugin.name == name for plugin in everything):
            raise UserError(unknown("method, compressor or data set", name, {plugin.name for plugin in everything}))
    return [plugin for name in dict.fromkeys(names) for plugin in everything if plugin.name == name]


def bound(plugin: Plugin, shop: Workshop | None) -> list[tuple[str, Callable[[], list[Finding]]]]:
    """The checks of a plugin, tied to one subject, which they share; and at the end what was said about itself."""
    if plugin.kind not in CHECKS:
        raise UserError(f"{plugin.path}: a {plugin.kind} is not checked; methods, compressors and data sets are.")
    subjects: list[Subject] = []

    def subject() -> Subject:
        if not subjects:
            subjects.append(_SUBJECTS[plugin.kind](plugin, shop or workshop()))
            subjects[0].watch_import()
        return subjects[0]

    def run(check: Check) -> list[Finding]:
        return findings(check, subject())

    checks = [(rule(check), partial(run, check)) for check in CHECKS[plugin.kind]]
    return [*checks, (EXCEPTIONS, lambda: list(_about(plugin, subject())))]


def _about(plugin: Plugin, subject: Subject) -> Iterator[Finding]:
    rules = [*(rule(check) for check in CHECKS[plugin.kind]), WATCH]
    for name, reason in plugin.constants.get("CHECK_EXCEPTIONS", {}).items():
        if name not in rules:
            yield Finding(EXCEPTIONS, subject.where, f"CHECK_EXCEPTIONS: {unknown('rule', str(name), rules)}")
        elif not isinstance(reason, str) or not reason.strip():
            yield Finding(EXCEPTIONS, subject.where, f"CHECK_EXCEPTIONS['{name}'] must give a reason.")
    if subject.shrunk:
        values = ", ".join(f"{name}={value}" for name, value in subject.shrunk.items())
        yield Finding(EXCEPTIONS, subject.where, f"checked with {values}, less than its defaults.", "note")


def _from_file(path: str | Path) -> Plugin:
    file = absolute_path(path)
    if not file.is_file():
        raise UserError(f"{path}: there is no such file.")
    return read(file, kind=None, module_name=None)
