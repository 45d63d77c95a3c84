"""`editkit compare --sweep "epochs=0..5"`: make an edit many ways, compare them in one batch, draw the curve."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Unpack

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.prompt_file import parse_seeds
from editkit.drawing.sampling import Sampling, Settings
from editkit.edits.method import Method, Options
from editkit.erasure.erase import erase
from editkit.errors import EditkitError, did_you_mean
from editkit.files.atomic_folder import check_free_folder
from editkit.model.checkpoints.source import find
from editkit.model.editable import EditableModel, open_model
from editkit.options import Option, options_of
from editkit.plugins import GROUPS, load, names
from editkit.progress import progress
from editkit.report.compare import MARK, Path_, read_compared, write_report
from editkit.report.comparison import Comparison, NamedVariant, make_comparison
from editkit.report.pareto import pareto_figures
from editkit.report.prompts import prompts_about
from editkit.variants.edit_file import save_edit
from editkit.variants.named import BASE
from editkit.variants.record import file_sha256

Setting = dict[str, Any]
MOST_EDITS = 40


def sweep_report(
    model: Path_ | None,
    concepts: Sequence[str],
    sweeps: Sequence[str],
    out: Path,
    edits: Sequence[str] = (BASE,),
    prompts: Sequence[str] = (),
    seeds: str = "0-7",
    method: str = GROUPS["methods"].default,
    protect: str | None = None,
    guides: Sequence[str] = (),
    preserve: Sequence[str] = (),
    device: str | None = None,
    force: bool = False,
    vocabulary: Sequence[str] | None = None,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> Comparison:
    """Erase `concepts` with every setting of `sweeps`, and report on the edits beside `edits`: `out/index.html` with
    the curve of erasure against damage, `grid.png`, `report.json`, and the edits in `out/edits/`.

    Args:
        prompts: default: the concepts, and words near to and far from them.

    Raises:
        EditkitError: a malformed sweep, or no setting gives an edit.
    """
    check_free_folder(out, force, MARK)
    wanted, numbers, source = settings_of(sweeps, method, protect), parse_seeds(seeds), find(model, profile=profile)
    opened = open_model(source)
    given = read_compared(source, edits)
    with tempfile.TemporaryDirectory() as folder:
        made, refused = _make(opened, concepts, guides, preserve, wanted, vocabulary, Path(folder))
        prompts = prompts or prompts_about(opened, concepts)
        sampling = Sampling.for_model(source, **settings)
        variants = [*given, *made]
        comparison = make_comparison(opened, variants, prompts, numbers, sampling, device, vocabulary, out)
        lead = pareto_figures(comparison, len(given), _varied(sweeps))
        command = ["editkit", "compare", *edits, *(w for concept in concepts for w in ("--concept", concept))]
        command += ["--method", method, *(("--protect", protect) if protect else ())]
        command += [w for sweep in sweeps for w in ("--sweep", sweep)]
        command += [*(w for prompt in prompts for w in ("--prompt", prompt)), "--seeds", seeds]
        keep = lambda inside: shutil.copytree(folder, inside / "edits")  # noqa: E731
        write_report(comparison, out, command, force, lead, refused, keep)
    return comparison


def settings_of(
    sweeps: Sequence[str], method: str = GROUPS["methods"].default, protect: str | None = None
) -> list[tuple[str, Method]]:
    """Every combination of the values in `sweeps`, by name.

    Raises:
        EditkitError: a malformed sweep, one combination alone, or too many.
    """
    parsed = [parse_sweep(sweep) for sweep in sweeps]
    names = [name for name, _ in parsed]
    if len(set(names)) < len(names):
        raise EditkitError(f"--sweep: {max(names, key=names.count)} is given twice; put all its values in one list")
    combined: list[Setting] = [
        dict(zip(names, values, strict=True)) for values in product(*(listed for _, listed in parsed))
    ]
    if not 2 <= len(combined) <= MOST_EDITS:
        raise EditkitError(f"--sweep: expected 2 to {MOST_EDITS} combinations of values, got {len(combined)}")
    varied = _varied(sweeps)
    named = []
    for setting in combined:
        options = Options(**{"method": method, "protect": protect, **setting})
        named.append((", ".join(f"{name}={_shown(setting[name])}" for name in varied), options))
    return named


def _varied(sweeps: Sequence[str]) -> list[str]:
    """The options that have several values; one value just sets an option."""
    return [name for name, values in map(parse_sweep, sweeps) if len(values) > 1]


def parse_sweep(text: str) -> tuple[str, list[Any]]:
    """ "epochs=0..5", "lamb=0.01,0.1,1", "protect=none,minimax": an option of a method and its values.

    Raises:
        EditkitError: another form, an unknown option, or values that it cannot take.
    """
    name, equals, values = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    if not equals or not values.strip():
        raise EditkitError(
            f"--sweep: expected OPTION=VALUES such as epochs=0..5 or lamb=0.01,0.1,1, got {text!r}; "
            f"options: {', '.join(_sweepable())}"
        )
    known = _sweepable()
    if name not in known:
        raise EditkitError(f"--sweep: no option {name!r}; {did_you_mean(name, known)}options: {', '.join(known)}")
    listed = _range(known[name], values) if ".." in values else [value.strip() for value in values.split(",")]
    return name, list(dict.fromkeys(known[name].parse(value, f"--sweep {name}") for value in listed))


def _sweepable() -> dict[str, Option]:
    """The method itself, and the options of every method, by name."""
    methods = tuple(names("methods"))
    method = Option("method", str, False, GROUPS["methods"].default, {}, "", methods, None, None, True)
    return {"method": method} | {known.name: known for name in methods for known in options_of(load("methods", name))}


def _range(option: Option, values: str) -> list[str]:
    name = option.name
    low, _, high = values.partition("..")
    if option.kind is not int:
        raise EditkitError(f"--sweep: {name} has no whole steps; list its values, as in {name}=0.01,0.1,1")
    try:
        first, last = int(low), int(high)
    except ValueError as error:
        raise EditkitError(f"--sweep: expected whole numbers as in {name}=0..5, got {values!r}") from error
    if last < first:
        raise EditkitError(f"--sweep: {name}={values} runs backwards; write {name}={last}..{first}")
    return [str(number) for number in range(first, min(last, first + MOST_EDITS) + 1)]


def _make(
    model: EditableModel,
    concepts: Sequence[str],
    guides: Sequence[str],
    preserve: Sequence[str],
    wanted: Sequence[tuple[str, Method]],
    vocabulary: Sequence[str] | None,
    folder: Path,
) -> tuple[list[NamedVariant], list[str]]:
    """The edits, written to `folder`, and what is to be said of settings that were refused."""
    made, refused = [], []
    for name, options in progress(wanted, len(wanted), "making the edits"):
        try:
            edit = erase(model, concepts, guides, preserve, options, vocabulary)
        except EditkitError as error:
            refused.append(f"{name} was refused: {error}")
            continue
        path = folder / f"{name.replace(', ', '_')}.safetensors"
        save_edit(edit, path)
        made.append(NamedVariant(name, edit, file_sha256(path)))
    if not made:
        raise EditkitError(f"--sweep: no setting gives an edit; {refused[0]}")
    return made, refused


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
