"""`run`: a recipe's stages one after another, each once; started again it goes on where it stopped."""

from __future__ import annotations

import gc
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from editkit.chaining.jobs import Job
from editkit.chaining.opened import COPY, RUN, RecipeRun, environment, open_run
from editkit.chaining.state import LOCKS, held, make_room, read_state, write_state
from editkit.chaining.summary import write_summary
from editkit.errors import EditkitError
from editkit.files.atomic import write_text_atomic


def run(
    recipe: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    on: str = "",
    model: str | os.PathLike[str] | None = None,
    device: str | None = None,
    shard: tuple[int, int] = (0, 1),
    tell: Callable[[str], None] = lambda text: None,
) -> RecipeRun:
    """Do what of a recipe is not done yet.

    A stage is done again where what it is made of changed: its fields, its files, the stages that it takes, the model,
    or a version of editkit, torch, diffusers or transformers. What it left before is kept in `out/earlier` and comes
    back with what it was made of.

    Args:
        recipe: a name (`editkit recipes`), or a `.toml` file.
        out: folder of the run. Default: `runs/NAME`.
        on: a table `[on.NAME]` of the recipe that changes it for another model.
        model: in place of the recipe's.
        device: in place of the recipe's.
        shard: which part of how many this process begins with, on a folder that they share. Each takes what nobody
            else works on, and ends when nothing is left to begin.
        tell: called with a line before and after each stage.

    Returns:
        The run; `out/index.html` and `out/run.json` show it once it is finished.

    Raises:
        EditkitError: the recipe is faulty, a stage cannot work, or `out` is somebody else's.
        KeyboardInterrupt: Ctrl-C; what was done is kept.

    >>> import tempfile
    >>> from pathlib import Path
    >>> text = '[stage.gone]\\ndo = "erase"\\nconcepts = ["church"]\\nmethod = "uce"\\n'
    >>> path = Path(tempfile.mkdtemp(), "gone.toml")
    >>> _ = path.write_text(text)
    >>> made = run(path, path.parent / "run", model="emoji")
    >>> [job.product(made.folder).name for job in made.jobs], made.finished
    (['gone.safetensors'], True)
    """
    part, parts = shard
    if not 0 <= part < parts:
        raise EditkitError(f"--shard: expected i/n with i from 0 to n - 1, got {part}/{parts}")
    made = open_run(recipe, out, on, model, device)
    made.check()
    _claim(made)
    _work(made, shard, tell)
    with held(made.folder, "summary") as free:
        if free and made.finished:
            write_summary(made)
    return made


def _claim(made: RecipeRun) -> None:
    """Make the folder the run's, with the recipe and what it runs in."""
    folder = made.folder
    if folder.exists() and not folder.is_dir():
        raise EditkitError(f"{folder}: expected a folder for the run, this is a file; give another --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RUN).is_file():
        raise EditkitError(f"{folder}: holds other things than a run ({RUN} is missing); give another --out")
    write_text_atomic(folder / RUN, json.dumps(environment(made), indent=1) + "\n", force=True)
    write_text_atomic(folder / COPY, made.recipe.text, force=True)
    (folder / LOCKS).mkdir(exist_ok=True)


def _work(made: RecipeRun, shard: tuple[int, int], tell: Callable[[str], None]) -> None:
    """Take what can be begun and nobody else works on, until there is nothing more."""
    part, parts = shard
    first = len(made.jobs) * part // parts
    order = (*made.jobs[first:], *made.jobs[:first])
    while any([_take(made, job, tell) for job in order]):
        pass


def _take(made: RecipeRun, job: Job, tell: Callable[[str], None]) -> bool:
    """Do a job that is not done and can be; whether it was."""
    if made.done(job) or not all(map(made.done, job.takes)):
        return False
    with held(made.folder, job.name) as free:
        if not free or made.done(job):
            return False
        number = f"[{made.jobs.index(job) + 1}/{len(made.jobs)}] {job.name}"
        before = read_state(made.folder / job.name)
        if make_room(made.folder, job, made.key(job)):
            tell(f"{number}: as before")
            return True
        took = f", {before.seconds:.0f} s the last time" if before is not None and before.done else ""
        tell(f"{number}: {job.do}{took}")
        seconds = do(made, job)
        tell(f"{number}: done in {seconds:.1f} s")
    gc.collect()
    return True


def do(made: RecipeRun, job: Job) -> float:
    """Do a job, whatever is there, and note it. Returns the seconds that it took.

    Raises:
        EditkitError: naming the stage.
    """
    start, place = time.perf_counter(), made.folder / job.name
    key = made.key(job)
    write_state(place, key, job)
    try:
        if job.launch:
            _launch(made, job)
        else:
            job.kind.run(made.task(job))
    except EditkitError as error:
        raise EditkitError(f"stage {job.name}: {error}") from error
    seconds = time.perf_counter() - start
    write_state(place, key, job, seconds)
    return seconds


def do_here(made: RecipeRun, name: str) -> None:
    """What a process of a launched stage does: the work of that one job alone."""
    job = next(job for job in made.jobs if job.name == name)
    job.kind.run(made.task(replace(job, launch="")))


def _launch(made: RecipeRun, job: Job) -> None:
    """Run a stage under another program: `torchrun --nproc_per_node 2`, `accelerate launch`."""
    said: Sequence[str] = (
        *shlex.split(job.launch), "-m", "editkit.chaining", str(made.recipe.path), str(made.folder), job.name,
        made.recipe.on, str(made.model.source.name), made.device or "",
    )  # fmt: skip
    try:
        code = subprocess.run(said, check=False).returncode
    except OSError as error:
        raise EditkitError(f"launch: {said[0]!r} cannot be run ({error.strerror}); install it, or leave it") from error
    if code:
        raise EditkitError(f"launch: {shlex.join(said)} ended with status {code}; its messages stand above")


def main(arguments: Sequence[str]) -> None:
    """`python -m editkit.chaining`, as `_launch` calls it."""
    recipe, folder, name, on, model, device = arguments
    do_here(open_run(recipe, folder, on, model, device or None), name)
