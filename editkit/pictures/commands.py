"""What `editkit generate` and `compare` do, for Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from editkit.errors import EditkitError
from editkit.model.atomic import check_free, write_atomic
from editkit.model.edit_file import load_edit
from editkit.model.editable import open_model
from editkit.model.fit import check_fit
from editkit.model.pipeline import load
from editkit.model.source import Source, find
from editkit.pictures.grid import grid
from editkit.pictures.progress import progress
from editkit.pictures.prompts import parse_seeds, read_prompts
from editkit.pictures.sampler import Job, Sampling, Variant, draw, jobs

Path_ = str | os.PathLike[str]
BASE = "base"


def generate_grid(
    model: Path_ | None,
    prompts: Sequence[str],
    edit: Path_ | None,
    seeds: str,
    out: Path,
    steps: int | None = None,
    guidance: float | None = None,
    device: str | None = None,
    force: bool = False,
) -> Image.Image:
    """One row a prompt, one column a seed."""
    compared = [BASE if edit is None else os.fspath(edit)]
    return compare_grid(model, compared, prompts, seeds, out, steps, guidance, device, force)


def compare_grid(
    model: Path_ | None,
    edits: Sequence[str],
    prompts: Sequence[str],
    seeds: str,
    out: Path,
    steps: int | None = None,
    guidance: float | None = None,
    device: str | None = None,
    force: bool = False,
) -> Image.Image:
    """One row a prompt and edit, one column a seed; a column shares its noise. `edits` are files, or `base`."""
    _check_picture(out, force)
    numbers = parse_seeds(seeds)
    source = find(model)
    variants = read_variants(source, edits)
    sampling = Sampling.for_model(source, steps, guidance)
    wanted = jobs(prompts, numbers, len(variants))
    drawn = {job: picture for job, picture in _drawn(source, device, wanted, variants, sampling)}
    rows, names = [], []
    for prompt in prompts:
        for n, name in enumerate(edits):
            rows.append([drawn[Job(prompt, seed, n)] for seed in numbers])
            names.append(prompt if len(edits) == 1 else f"{prompt} | {Path(name).stem}")
    sheet = grid(rows, names, [str(seed) for seed in numbers], scale=2 if rows[0][0].width < 100 else 1)
    write_atomic(out, sheet.save, force)
    return sheet


def generate_folder(
    model: Path_ | None,
    prompts: Path,
    edit: Path_ | None,
    seeds: str,
    out: Path,
    steps: int | None = None,
    guidance: float | None = None,
    device: str | None = None,
) -> tuple[int, int]:
    """`out/{case_number}_{seed}.png` for every row of a prompt file; returns how many were drawn and were there.

    A row's own seed wins over `seeds`. A second run draws what is missing.
    """
    if out.is_file():
        raise EditkitError(f"{out}: expected a folder for the pictures, this is a file; give another --out")
    names: dict[Job, list[Path]] = {}
    for case in read_prompts(prompts):
        for seed in parse_seeds(seeds) if case.seed is None else [case.seed]:
            names.setdefault(Job(case.prompt, seed), []).append(out / f"{case.case_number}_{seed}.png")
    missing = [job for job, paths in names.items() if not all(path.exists() for path in paths)]
    total = sum(len(paths) for paths in names.values())
    source = find(model)
    variants = read_variants(source, [BASE if edit is None else os.fspath(edit)])
    sampling = Sampling.for_model(source, steps, guidance)
    count = 0
    for job, picture in _drawn(source, device, missing, variants, sampling) if missing else ():
        for path in names[job]:
            if not path.exists():
                write_atomic(path, picture.save)
                count += 1
    return count, total - count


def read_variants(source: Source, edits: Sequence[str]) -> list[Variant]:
    """The edits by file name, checked against the model; `base` is the unedited model."""
    variants: list[Variant] = [None if name == BASE else load_edit(name) for name in edits]
    made = [variant for variant in variants if variant is not None]
    if made:
        model = open_model(source)
        for one in made:
            check_fit(one, model)
    return variants


def _drawn(source: Source, device: str | None, wanted: list[Job], variants: list[Variant], sampling: Sampling) -> Any:
    pipe = load(source, device or _best_device())
    return progress(draw(pipe, wanted, variants, sampling), len(wanted), "drawing")


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_picture(out: Path, force: bool) -> None:
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise EditkitError(f"{out}: expected a picture file (.png, .jpg, .webp), got {out.suffix or 'no ending'!r}")
    check_free(out, force)
