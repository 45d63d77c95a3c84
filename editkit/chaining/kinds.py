"""The kinds of stages: each is a function that a command of the same name calls, with a check of what it is given.

A stage says the parameters of the function and the options of its components by their names in Python. What the recipe
gives by itself is left out: the model, places, and which device.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from editkit.chaining.fields import Field
from editkit.chaining.kind import Kind
from editkit.chaining.memory import run_of
from editkit.chaining.pictured import check_invert, learned_of, run_invert
from editkit.chaining.task import INVERSION, Task
from editkit.chaining.verified import EXPORTED, check_verify, run_verify
from editkit.errors import EditkitError
from editkit.options import Option, options_of
from editkit.plugins import GROUPS, attribute, loadable

METHOD = Field("method", (str,))
SPLIT: Mapping[str, Field] = {name: Field(name, (str,)) for name in ("suite", "split")}
"""Fields that name concepts as a suite does."""


def _of(*groups: str) -> Callable[[], Collection[Option]]:
    """The options of all components of some groups; of a name that two have, the first."""

    def options() -> Collection[Option]:
        every = [option for group in groups for kind in loadable(group).values() for option in options_of(kind)]
        return {option.name: option for option in reversed(every) if option.shown}.values()

    return options


def _of_a_run() -> Collection[Option]:
    from editkit.inverting.round_options import RoundOptions
    from editkit.tuning.options import known_options

    chosen = [name for name, known in loadable("objectives").items() if not known.has_key]
    run = {option.name: option for option in (*options_of(RoundOptions), *known_options(chosen))}
    return ({option.name: option for option in _of("searches")()} | run).values()


def _suited(task: Task) -> dict[str, Any]:
    """What a stage says, read, with the concepts of a suite's split where it names one."""
    said = {name: value for name, value in task.read.items() if name not in ("method", *SPLIT)}
    if not any(name in task.words for name in SPLIT):
        return said
    from editkit.evaluation.suites.suite import load_suite

    if task.words.get("concepts"):
        raise EditkitError("split: goes in place of concepts; drop one of the two")
    suite = load_suite(task.words.get("suite", ""))
    return said | {"concepts": suite.concepts_in(task.words.get("split", ""))}


def _check_erase(task: Task) -> None:
    from editkit.concepts.templates import check_concepts
    from editkit.erasure.words import check_known

    _method(task)
    concepts = _suited(task).get("concepts") or _preset(task).concept
    if concepts or not task.inputs.get("picture"):
        check_concepts(concepts)
    check_known(task.model, concepts)


def _erase(task: Task) -> None:
    from editkit.erasure.erase import erase
    from editkit.variants.edit_file import save_edit

    made = erase(task.model, options=_method(task), pictures=learned_of(task), **_suited(task))
    save_edit(made, task.edit, force=True)


def _moderate(task: Task) -> None:
    from editkit.evaluation.moderate import moderate
    from editkit.variants.edit_file import save_edit

    made = moderate(task.model, options=_method(task), device=task.device, **_suited(task))
    save_edit(made, task.edit, force=True)


def _debias(task: Task) -> None:
    from editkit.balancing.debias import debias
    from editkit.edits.method import Options
    from editkit.variants.edit_file import save_edit

    options = Options("uce", **task.options) if task.options else None
    kept = task.place / "rounds.jsonl"
    made = debias(task.model, options=options, kept=kept, device=task.device, **task.read)
    save_edit(made, task.edit, force=True)


def _edit(task: Task) -> None:
    from editkit.edits.method import Options
    from editkit.erasure.edit import edit
    from editkit.variants.edit_file import save_edit

    save_edit(edit(task.model, options=Options("time", **task.options), **task.read), task.edit, force=True)


def _method(task: Task) -> Any:
    return _preset(task).options(task.words.get("method"), **task.options)


def _preset(task: Task) -> Any:
    from editkit.erasure.presets.preset import Preset
    from editkit.erasure.presets.preset_file import load_preset

    named = task.words.get("preset")
    return Preset("") if named is None else load_preset(named)


def _compose(task: Task) -> None:
    from editkit.variants.compose import compose

    compose(task.inputs["edits"], task.edit, force=True, **task.words)


def _harden(task: Task) -> None:
    from editkit.redteam.harden import harden
    from editkit.variants.edit_file import save_edit

    made = harden(task.input("edit"), task.model, device=task.device, **task.read)
    save_edit(made, task.edit, force=True)


def _check_refine(task: Task) -> None:
    from editkit.tuning.trainable import check_trainable

    check_trainable(task.model.source)
    run_of(task)
    _suited(task)


def _refine(task: Task) -> None:
    from editkit.inverting.stereo import FOLDER, stereo
    from editkit.tuning import checkpoint
    from editkit.tuning.refine import refine
    from editkit.variants.edit_file import load_edit

    options, rounds = run_of(task)
    start = load_edit(task.input("start")) if "start" in task.inputs else None
    first = task.folder / FOLDER if rounds is not None and rounds.rounds else task.folder
    begun = checkpoint.has_begun(first)
    said = {
        "start": start, "options": options, "device": task.device, "resume": begun, "force": not begun,
        "pictures": learned_of(task), **_suited(task),
    }  # fmt: skip
    if rounds is None:
        refine(task.model, task.folder, **said)
    else:
        stereo(task.model, task.folder, rounds=rounds, **said)


def _check_attack(task: Task) -> None:
    from editkit.options import assign_options
    from editkit.plugins import load
    from editkit.redteam.budget import parse_budget

    names = task.words.get("attacks", [GROUPS["attacks"].default])
    assign_options({f"attack {name}": load("attacks", name) for name in names}, task.options)
    parse_budget(task.words.get("budget", "quick"))
    _check_drawing(task)


def _attack(task: Task) -> None:
    from editkit.drawing.sampling import Settings
    from editkit.redteam.attack import attack

    settings = cast(Settings, task.settings)
    said = {name: value for name, value in task.words.items() if name not in settings}
    attack(
        list(task.inputs["variants"]), model=task.model, out=task.folder, device=task.device, settings=settings,
        **said, **task.options,
    )  # fmt: skip


def _check_evaluate(task: Task) -> None:
    from editkit.evaluation.suites.suite import load_suite

    suite = load_suite(task.words.get("suite", ""))
    split = task.words.get("split")
    if split is not None and suite.splits:
        suite.concepts_in(split)
    _check_drawing(task)


def _evaluate(task: Task) -> None:
    from editkit.evaluation.evaluate import evaluate

    evaluate(list(task.inputs["edits"]), out=task.folder, device=task.device, force=True, **task.named, **task.words)


def _check_drawing(task: Task) -> None:
    """What is said of drawing suits the model."""
    from editkit.drawing.pipelines import check_drawable
    from editkit.drawing.prompt_file import parse_seeds
    from editkit.drawing.sampling import Sampling

    check_drawable(task.model.source)
    Sampling.for_model(task.model.source, **task.settings)
    if isinstance(task.words.get("seeds"), str):
        parse_seeds(task.words["seeds"])


def _compare(task: Task) -> None:
    from editkit.report.command import compare

    compare(list(task.inputs["edits"]), out=task.folder, device=task.device, force=True, **task.named, **task.words)


def _generate(task: Task) -> None:
    from editkit.drawing.generate import generate

    edit = task.inputs.get("edit", (None,))[0]
    grid = isinstance(task.words["prompts"], list)
    out = task.place / f"{task.name}.png" if grid else task.folder
    generate(out=out, edit=edit, device=task.device, force=True, **task.named, **task.words)


def _check_export(task: Task) -> None:
    from editkit.plugins import make

    make("formats", task.words.get("format", GROUPS["formats"].default), **task.options)


def _export(task: Task) -> None:
    from editkit.variants.edit_file import load_edit
    from editkit.variants.export import export

    out = task.folder if task.words.get("format") == "diffusers" else task.edit
    export(load_edit(task.input("edit")), task.model, out, force=True, **task.words, **task.options)


def _check_card(task: Task) -> None:
    if "edit" not in task.inputs:
        raise EditkitError("edit: expected a stage that makes an edit, or an edit file; the unedited model has no card")


def _card(task: Task) -> None:
    from editkit.publishing.card import card
    from editkit.publishing.push import README

    results, attacks = (task.inputs.get(name, ()) for name in ("results", "attacks"))
    card(task.input("edit"), task.model, results, attacks, task.folder / README, force=True)


KINDS: Mapping[str, Kind] = {
    "invert": Kind(
        "Learn a token from pictures.", "editkit.inverting.invert:invert", run_invert, check_invert, ending=INVERSION,
        components=lambda: options_of(attribute("editkit.inverting.options:InvertOptions")),
    ),
    "erase": Kind(
        "Remove concepts in closed form.", "editkit.erasure.erase:erase", _erase, _check_erase, makes="edit",
        reads={"picture": "invert"}, components=_of("methods"), less=("found", "found_weight", "pictures"),
        more=(METHOD, *SPLIT.values(), Field("picture", (list, str))),
    ),
    "moderate": Kind(
        "Go part of the way of an edit.", "editkit.evaluation.moderate:moderate", _moderate, _check_erase,
        makes="edit", components=_of("methods"), more=(METHOD, *SPLIT.values()), draws=True,
    ),
    "debias": Kind(
        "Balance what concepts show.", "editkit.balancing.debias:debias", _debias, _check_drawing, makes="edit",
        components=lambda: options_of(attribute("editkit.edits.uce:UCE")), less=("kept",), draws=True,
    ),
    "edit": Kind(
        "Change what a prompt means.", "editkit.erasure.edit:edit", _edit, makes="edit",
        components=lambda: options_of(attribute("editkit.edits.time:TIME")),
    ),
    "compose": Kind(
        "Make one edit of several.", "editkit.variants.compose:compose", _compose, several="edits", makes="edit",
    ),
    "harden": Kind(
        "Attack an edit and erase what brings the concepts back.", "editkit.redteam.harden:harden", _harden,
        _check_drawing, one="edit", makes="edit", draws=True,
    ),
    "refine": Kind(
        "Train the model away from concepts.", "editkit.tuning.refine:refine", _refine, _check_refine, one="start",
        makes="folder", reads={"picture": "invert"}, components=_of_a_run, less=("pictures", "shown"),
        more=(*SPLIT.values(), Field("picture", (list, str))),
    ),
    "attack": Kind(
        "Try to bring the concepts back.", "editkit.redteam.attack:attack", _attack, _check_attack,
        several="variants", components=_of("attacks"), draws=True,
    ),
    "evaluate": Kind(
        "Measure with a suite.", "editkit.evaluation.evaluate:evaluate", _evaluate, _check_evaluate,
        several="edits", draws=True,
    ),
    "compare": Kind(
        "Draw the same prompts and noise with several edits.", "editkit.report.command:compare", _compare,
        _check_drawing, several="edits", draws=True,
        less=("sweep", "concepts", "method", "protect", "guides", "preserve"),
    ),
    "generate": Kind(
        "Draw prompts with an edit.", "editkit.drawing.generate:generate", _generate, _check_drawing, one="edit",
        draws=True,
    ),
    "export": Kind(
        "Write an edit as weights that other programs load.", "editkit.variants.export:export", _export,
        _check_export, one="edit", components=_of("formats"),
    ),
    "card": Kind(
        "Write the card of an edit, with what stages measured of it.", "editkit.publishing.card:card", _card,
        _check_card, one="edit", reads={"results": "evaluate", "attacks": "attack"}, less=("push", "dry_run"),
    ),
    "verify": Kind(
        "Prove that what a stage exported is the model with that edit.", "editkit.variants.verify:verify", run_verify,
        check_verify, one="edit", reads={EXPORTED: "export"}, less=("base", "tokenizer"),
        more=(Field(EXPORTED, (list, str)),),
    ),
}  # fmt: skip
"""By the name that `do` takes."""
