"""What `editkit generate` and `compare` do, for Python."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from PIL import Image

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.files import Shard, draw_files, keep_settings
from editkit.drawing.grid import grid
from editkit.drawing.pipelines import check_drawable, open_denoiser
from editkit.drawing.progress import progress
from editkit.drawing.prompt_file import PromptCase, PromptFile, parse_seeds
from editkit.drawing.sampler import Job, draw, jobs
from editkit.drawing.sampling import Sampling, Settings
from editkit.drawing.truncation import count_truncated
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.files.atomic import check_free, write_atomic
from editkit.files.text.table import Layout
from editkit.model.checkpoints.source import Source, find
from editkit.variants.named import BASE, read_variants, variant_name, variant_sha256

Path_ = str | os.PathLike[str]


def generate_grid(
    model: Path_ | None,
    prompts: Sequence[str],
    edit: Path_ | None,
    seeds: str,
    out: Path,
    device: str | None = None,
    force: bool = False,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> Image.Image:
    """One row a prompt, one column a seed."""
    compared = [BASE if edit is None else os.fspath(edit)]
    return compare_grid(model, compared, prompts, seeds, out, device, force, profile, **settings)


def compare_grid(
    model: Path_ | None,
    edits: Sequence[str],
    prompts: Sequence[str],
    seeds: str,
    out: Path,
    device: str | None = None,
    force: bool = False,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> Image.Image:
    """One row a prompt and edit, one column a seed; a column shares its noise. `edits` are files, or `base`."""
    check_picture(out, force)
    numbers = parse_seeds(seeds)
    source = find(model, profile=profile)
    check_drawable(source)
    variants = read_variants(source, edits)
    sheet = draw_grid(source, prompts, [variant_name(name) for name in edits], variants, numbers, device, **settings)
    write_atomic(out, sheet.save, force)
    return sheet


def draw_grid(
    source: Source,
    prompts: Sequence[str],
    names: Sequence[str],
    variants: Sequence[Variant | None],
    seeds: Sequence[int],
    device: str | None = None,
    **settings: Unpack[Settings],
) -> Image.Image:
    """`variants_grid` of pictures that are drawn for it; `names` are the variants'."""
    wanted = jobs(prompts, seeds, len(variants))
    denoiser = open_denoiser(source, device or Shard.from_environment().device())
    drawing = draw(denoiser, wanted, variants, Sampling.for_model(source, **settings))
    return variants_grid(dict(progress(drawing, len(wanted), "drawing")), prompts, names, seeds)


def variants_grid(
    drawn: Mapping[Job, Image.Image], prompts: Sequence[str], variants: Sequence[str], seeds: Sequence[int]
) -> Image.Image:
    """One row a prompt and variant, one column a seed."""
    rows, names = [], []
    for prompt in prompts:
        for n, name in enumerate(variants):
            rows.append([drawn[Job(prompt, seed, n)] for seed in seeds])
            names.append(prompt if len(variants) == 1 else f"{prompt} | {name}")
    return grid(rows, names, [str(seed) for seed in seeds], scale=2 if rows[0][0].width < 100 else 1)


def generate_folder(
    model: Path_ | None,
    prompts: Path,
    edit: Path_ | None,
    seeds: str,
    out: Path,
    device: str | None = None,
    skip_bad_rows: bool = False,
    profile: ProfileOrFile | None = None,
    columns: str | Mapping[str, str | int] | None = None,
    separator: str | None = None,
    **settings: Unpack[Settings],
) -> tuple[int, int]:
    """`out/{case_number}_{seed}.png` for every row of a prompt file; returns how many were drawn and were there.

    A row's own seed wins over `seeds`, its own guidance over the model's usual one. A second run draws what is missing,
    with the same settings. Under `accelerate launch` or `torchrun` every process draws its part.

    Args:
        columns: which column is what, such as "prompt=TEXT,seed=SEED": names of the header, or positions from 1.
        separator: of the columns, where the file does not show it: a character, or comma, semicolon, tab, pipe, none.

    Raises:
        EditkitError: the folder holds pictures that were made otherwise, or the prompt file has bad rows that are not
            skipped.
    """
    if out.is_file():
        raise EditkitError(f"{out}: expected a folder for the pictures, this is a file; give another --out")
    shard, numbers = Shard.from_environment(), parse_seeds(seeds)
    cases = PromptFile.open(prompts, skip_bad_rows, Layout.of(columns, separator))
    source = find(model, profile=profile)
    check_drawable(source)
    sampling = Sampling.for_model(source, **settings)
    guidances = row_guidances((case.guidance for case in cases), settings)
    name = BASE if edit is None else os.fspath(edit)
    variants = read_variants(source, [name])  # first: what is no edit has no hash either
    made = {"model": source.name, "edit": variant_sha256(name), **sampling.record}
    if guidances != [None]:
        made["guidance of the rows"] = True
    if shard.is_first:
        keep_settings(out, made)
    denoiser = open_denoiser(source, device or shard.device())
    if shard.is_first:
        count_truncated(denoiser.pipe, (case.prompt for case in cases))
    drawn, there = 0, 0
    for guidance in guidances:
        own = sampling if guidance is None else replace(sampling, guidance=guidance)
        some = (case for case in cases if guidances == [None] or case.guidance == guidance)
        count = sum(len(numbers) if case.seed is None else 1 for case in cases)
        new, old = draw_files(denoiser, _named(some, numbers, out), variants, own, shard, count)
        drawn, there = drawn + new, there + old
    return drawn, there


def _named(cases: Iterable[PromptCase], seeds: Sequence[int], out: Path) -> Iterator[tuple[Job, Path]]:
    for case in cases:
        for seed in seeds if case.seed is None else [case.seed]:
            yield Job(case.prompt, seed), out / f"{case.case_number}_{seed}.png"


def row_guidances(guidances: Iterable[float | None], settings: Settings) -> list[float | None]:
    """The guidances to draw with, one after another; None is the usual one, and the only one where the user gave it."""
    return list(dict.fromkeys(guidances)) if settings.get("guidance") is None else [None]


def check_picture(out: Path, force: bool) -> None:
    """Refuse a place that a picture cannot be written to."""
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise EditkitError(f"{out}: expected a picture file (.png, .jpg, .webp), got {out.suffix or 'no ending'!r}")
    check_free(out, force)
