"""A recipe's stages as jobs: one for each variant, in an order in which each finds what it takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import product
from pathlib import Path
from typing import Any

from editkit.chaining.fields import Field
from editkit.chaining.kind import Kind
from editkit.chaining.recipe import Recipe
from editkit.edits.guards import parse_guard
from editkit.errors import EditkitError, did_you_mean
from editkit.evaluation.suites.suite import load_suite
from editkit.files.names import file_stem
from editkit.plugins import load, loadable
from editkit.variants.guard_names import split_guard
from editkit.variants.named import BASE

DO, LAUNCH = "do", "launch"
"""Keys of a stage that are no fields of its kind."""
CONCEPTS = "{concepts}"


@dataclass(frozen=True)
class Job:
    """One variant of one stage.

    Attributes:
        name: the stage's, and what tells its variants apart.
        stage: whose it is.
        do: the name of its kind.
        said: field → value, without the variants that it takes.
        inputs: field → jobs, `base`, or files.
        launch: the program that runs it; empty: none.
        suffix: what tells it from the stage's other variants.
    """

    name: str
    stage: str
    do: str
    kind: Kind = field(repr=False)
    said: Mapping[str, Any]
    inputs: Mapping[str, tuple[Job | str, ...]]
    launch: str = ""
    suffix: tuple[str, ...] = ()

    @property
    def takes(self) -> list[Job]:
        """The jobs whose results it takes."""
        return [each for every in self.inputs.values() for each in every if isinstance(each, Job)]

    def product(self, folder: Path) -> Path:
        """What others take of it, in the folder of the run."""
        ending = ".safetensors" if self.kind.makes == "edit" else self.kind.ending
        return folder / self.name / f"{self.name}{ending}"

    def names(self, folder: Path) -> dict[str, tuple[str, ...]]:
        """Its inputs by the names that commands take."""
        return {
            where: tuple(str(each.product(folder)) if isinstance(each, Job) else each for each in every)
            for where, every in self.inputs.items()
        }

    @cached_property
    def content(self) -> dict[str, Any]:
        """What its result depends on, but for the model."""
        files = {
            name: _mark(Path(value))
            for name, value in self.said.items()
            if isinstance(value, str) and self.kind.fields[name].is_path and Path(value).exists()
        }
        inputs = {
            where: [each.content if isinstance(each, Job) else [each, _mark(Path(each))] for each in every]
            for where, every in self.inputs.items()
        }
        return {"do": self.do, "said": dict(self.said), "inputs": inputs, "files": files}

    def key(self, model: str) -> str:
        """A hash of all that its result depends on. `model` tells the model's weights, and what computes with them."""
        text = json.dumps([self.content, model], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def jobs_of(recipe: Recipe) -> list[Job]:
    """All jobs of a recipe, each after those that it takes.

    Raises:
        EditkitError: naming the stage: an unknown kind, field or stage, a value of the wrong kind, or stages in a
            circle.
    """
    made: dict[str, list[Job]] = {}
    for stage in _order(recipe):
        try:
            made[stage] = list(_jobs(recipe, stage, made))
        except EditkitError as error:
            raise EditkitError(f"recipe {recipe.path.name}, stage {stage}: {error}") from error
    jobs = [job for stage in made for job in made[stage]]
    twice = [job.name for n, job in enumerate(jobs) if job.name in {other.name for other in jobs[:n]}]
    if twice:
        raise EditkitError(f"recipe {recipe.path.name}: two stages or variants are called {twice[0]}; rename one")
    return jobs


def _order(recipe: Recipe) -> list[str]:
    """The stages, each after those that it names; in the order of the file where that leaves a choice."""
    before: dict[str, list[str]] = {}
    for stage, said in recipe.stages.items():
        taken = [each for where in _kind(recipe, stage).takes for each in _texts(said.get(where))]
        before[stage] = [name for name in recipe.stages if any(_is_of(each, name) for each in taken)]
    sorter = TopologicalSorter(before)
    try:
        return list(sorter.static_order())
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise EditkitError(
            f"recipe {recipe.path.name}: stages wait for each other in a circle ({circle}); let one take something else"
        ) from error


def _kind(recipe: Recipe, stage: str) -> Kind:
    do = recipe.stages[stage].get(DO)
    if not isinstance(do, str):
        got = "none" if do is None else repr(do)
        raise EditkitError(
            f'recipe {recipe.path.name}, stage {stage}: expected its kind, such as do = "erase", got {got}; `editkit '
            "stages` lists the kinds"
        )
    try:
        return load("stages", do)
    except EditkitError as error:
        raise EditkitError(f"recipe {recipe.path.name}, stage {stage}: {error}") from error


def _jobs(recipe: Recipe, stage: str, made: Mapping[str, Sequence[Job]]) -> Iterator[Job]:
    kind, said = _kind(recipe, stage), dict(recipe.stages[stage])
    do, launch = said.pop(DO), said.pop(LAUNCH, "")
    _check_names(kind, said)
    taken = {where: _with_concepts(_texts(said.pop(where)), said) for where in kind.takes if where in said}
    several = {where: _taken(recipe, taken[where], made, kind.reads.get(where, "")) for where in taken
               if where != kind.one}  # fmt: skip
    one_of = _taken(recipe, taken[kind.one], made) if kind.one in taken else [BASE]
    axes = {name: value for name, value in said.items() if _is_axis(kind.fields[name], value)}
    fixed = {name: _value(recipe, kind.fields[name], value) for name, value in said.items() if name not in axes}
    for one, *values in product(one_of, *axes.values()):
        own = {name: _value(recipe, kind.fields[name], value) for name, value in zip(axes, values, strict=True)}
        inputs: dict[str, tuple[Job | str, ...]] = {where: tuple(every) for where, every in several.items()}
        if one != BASE:  # without an edit a function takes the unedited model
            inputs[kind.one] = (one,)
        suffix = (*_told(one, len(one_of)), *(_tag(name, value) for name, value in own.items()))
        yield Job("-".join([stage, *suffix]), stage, do, kind, fixed | own, inputs, launch, suffix)


def _told(one: Job | str, count: int) -> tuple[str, ...]:
    """What tells a variant by the one that it takes."""
    if isinstance(one, Job):
        return one.suffix or ((one.name,) if count > 1 else ())
    return (file_stem([one]),) if count > 1 else ()


def _tag(name: str, value: Any) -> str:
    """How a value is told in a name: `rece`, `lamb0.1`."""
    if isinstance(value, str):
        return file_stem([value])
    if isinstance(value, list):
        return file_stem([str(each) for each in value])
    return f"{name}{str(value).lower()}"


def _check_names(kind: Kind, said: Mapping[str, Any]) -> None:
    for name in said:
        if name not in kind.fields:
            hint = did_you_mean(name, kind.fields)
            takes = f"; it takes {kind.one or kind.several}" if kind.one or kind.several else ""
            raise EditkitError(f"{name}: no such field{takes}; {hint}`editkit stages` lists all that it may say")
    missing = [name for name, known in kind.fields.items() if known.required and name not in said]
    if missing:
        raise EditkitError(f"{missing[0]}: missing; it is {kind.fields[missing[0]].shape}")


def _is_axis(known: Field, value: Any) -> bool:
    """A list where none is expected, or a list of lists."""
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(each, list) for each in value) if list in known.kinds else not known.admits(value)


def _value(recipe: Recipe, known: Field, value: Any) -> Any:
    """Checked; a path beside the recipe is found there."""
    if not known.admits(value):
        example = ', such as ["church"]' if list in known.kinds else ""
        raise EditkitError(f"{known.name}: expected {known.shape}{example}, got {value!r}")
    if known.option is not None:
        known.option.check(value, known.name)
    beside = recipe.path.parent / value if known.is_path and isinstance(value, str) else None
    return str(beside) if beside is not None and beside.exists() else value


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [each for each in value or () if isinstance(each, str)]


def _is_of(name: str, stage: str) -> bool:
    """Whether `name` is a stage or, perhaps, one of its variants."""
    return name == stage or name.startswith(f"{stage}-")


def _taken(
    recipe: Recipe, names: Sequence[str], made: Mapping[str, Sequence[Job]], do: str = ""
) -> list[Job | str]:  # fmt: skip
    """Every variant that some names mean; with `do`, what stages of that kind make."""
    found: list[Job | str] = []
    every = {job.name: job for jobs in made.values() for job in jobs}
    for name in names:
        beside = recipe.path.parent / name
        if name in made or name in every:
            jobs = made.get(name) or [every[name]]
            without = [job for job in jobs if (job.do != do if do else not job.kind.makes)]
            if without:
                said = f"that is no {do}" if do else "that makes no edit"
                raise EditkitError(
                    f"{name}: a stage {said} ({without[0].do}), expected one that {'is' if do else 'does'}"
                )
            found += jobs
        elif not do and (name == BASE or _is_guarded_base(name)):
            found.append(name)
        elif beside.exists() or Path(name).exists():
            found.append(str(beside if beside.exists() else Path(name)))
        else:
            hint = did_you_mean(name, [*made, *every, BASE])
            known = ", ".join(dict.fromkeys([*made, *every])) or "nothing"
            raise EditkitError(f"{name!r}: no such stage, variant or file; {hint}it may take {known}, {BASE} or a file")
    return found


def _is_guarded_base(name: str) -> bool:
    """`base+GUARD`. A guard that cannot be read raises."""
    inner, guard = split_guard(name)
    if guard is None:
        return False
    parse_guard(guard, loadable("guards"))
    if inner != BASE:
        raise EditkitError(f"{name}: a guard goes with the unedited model here; write {BASE}+{guard}")
    return True


def _with_concepts(names: Sequence[str], said: Mapping[str, Any]) -> list[str]:
    """Names of what is drawn; `{concepts}` in a guard's are those of the stage's own split."""
    if not any(CONCEPTS in name for name in names):
        return list(names)
    suite, split = said.get("suite"), said.get("split")
    if not isinstance(suite, str) or not isinstance(split, str):
        raise EditkitError(f"{CONCEPTS}: stands for those of the stage's suite and split; it says none")
    return [name.replace(CONCEPTS, ", ".join(load_suite(suite).concepts_in(split))) for name in names]


def _mark(path: Path) -> str:
    """What tells the content of a file or folder; of what is not there, nothing."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    inside = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else []
    lines = [f"{each.relative_to(path)} {each.stat().st_size} {each.stat().st_mtime_ns}" for each in inside]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def model_mark(path: Path) -> str:
    """The same of a model: names, sizes and times of its files, since its weights take minutes to read."""
    if not path.is_file():
        return _mark(path)
    stat = path.stat()
    return f"{path.name} {stat.st_size} {stat.st_mtime_ns}"
