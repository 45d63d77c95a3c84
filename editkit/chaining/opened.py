"""A recipe that is opened for one model and one folder: what its jobs are called with, and what is done of them."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from editkit.chaining.jobs import Job, jobs_of, model_mark
from editkit.chaining.memory import planned_bytes
from editkit.chaining.recipe import Recipe, load_recipe
from editkit.chaining.state import is_done, read_state
from editkit.chaining.task import Task
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.versions import RESULTS, versions

RUN, COPY = "run.json", "recipe.toml"


@dataclass(frozen=True)
class Planned:
    """What a run will do with one job.

    Attributes:
        state: `done`, `begun`, `changed` (it was made of something else), or `new`.
        seconds: that it took before, whatever it was made of; None where it never ran here.
        memory: planned bytes at the peak; None where nothing plans it.
    """

    job: Job
    state: str
    seconds: float | None
    memory: int | None = None


@dataclass(frozen=True)
class RecipeRun:
    """A recipe, opened for one model and one folder.

    Attributes:
        jobs: each after those that it takes.
        folder: of everything that it makes.
    """

    recipe: Recipe
    jobs: tuple[Job, ...]
    folder: Path
    model: EditableModel
    device: str | None = None

    @cached_property
    def mark(self) -> str:
        """What tells the model's weights, and the versions of what computes with them."""
        source = self.model.source
        return f"{source.profile.name} {model_mark(source.path)} {versions()}"

    def key(self, job: Job) -> str:
        """Of all that a job's result depends on."""
        return job.key(self.mark)

    def task(self, job: Job) -> Task:
        """What its kind is called with."""
        from editkit.drawing.sampling import parse_size

        options = {name: value for name, value in job.said.items() if job.kind.fields[name].option is not None}
        words = {name: value for name, value in job.said.items() if name not in options}
        if "size" in words:
            words["size"] = parse_size(words["size"])
        place = self.folder / job.name
        return Task(job.name, self.model, words, options, job.names(self.folder), place, self.device)

    def check(self) -> None:
        """Refuse what cannot work, before anything starts.

        Raises:
            EditkitError: naming the stage.
        """
        for job in self.jobs:
            try:
                job.kind.check(self.task(job))
            except EditkitError as error:
                raise EditkitError(f"recipe {self.recipe.path.name}, stage {job.name}: {error}") from error
        known = {job.stage for job in self.jobs}
        for each in self.recipe.published:
            if each.stage not in known:
                raise EditkitError(
                    f"recipe {self.recipe.path.name}: published.stage: no stage {each.stage!r}; it has "
                    f"{', '.join(sorted(known))}"
                )

    def plan(self) -> list[Planned]:
        """What is done, and what is to be done."""
        return [self._planned(job) for job in self.jobs]

    def _planned(self, job: Job) -> Planned:
        kept = read_state(self.folder / job.name)
        if kept is None:
            return Planned(job, "new", None, planned_bytes(self.task(job), job.do))
        state = "changed" if kept.key != self.key(job) else "done" if kept.done else "begun"
        memory = None if state == "done" else planned_bytes(self.task(job), job.do)
        return Planned(job, state, kept.seconds if kept.done else None, memory)

    def seconds(self, job: Job) -> float:
        """That it took the last time; 0 where it never ran here."""
        state = read_state(self.folder / job.name)
        return 0.0 if state is None else state.seconds

    def done(self, job: Job) -> bool:
        return is_done(self.folder, job, self.key(job))

    @property
    def finished(self) -> bool:
        """Whether every stage is done."""
        return all(map(self.done, self.jobs))


def open_run(
    recipe: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    on: str = "",
    model: str | os.PathLike[str] | None = None,
    device: str | None = None,
) -> RecipeRun:
    """A recipe for one model and one folder, of which nothing was checked or done: see `run`."""
    read = load_recipe(Path(recipe), on)
    folder = Path(out) if out is not None else Path("runs", read.path.stem)
    device = device or read.device
    named = model if model is not None else read.model
    opened = open_model(named, profile=_beside(read, read.profile), device=device)
    return RecipeRun(read, tuple(jobs_of(read)), folder, opened, device)


def _beside(recipe: Recipe, path: str | None) -> Path | None:
    if path is None:
        return None
    beside = recipe.path.parent / path
    return beside if beside.exists() else Path(path)


def environment(made: RecipeRun) -> dict[str, object]:
    """What a run runs in, and every stage with what it says."""
    recipe, source = made.recipe, made.model.source
    return {
        "recipe": recipe.path.name, "title": recipe.title, "on": recipe.on, "model": source.name,
        "profile": source.profile.name, "device": made.device, "versions": versions(RESULTS),
        "python": platform.python_version(), "platform": platform.platform(),
        "stages": {
            job.name: {"do": job.do, **job.said, **{where: list(some) for where, some in job.names(Path()).items()}}
            for job in made.jobs
        },
    }  # fmt: skip
