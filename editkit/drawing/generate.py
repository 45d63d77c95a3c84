"""`editkit generate`, and the grid of `compare`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from PIL import Image

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.files import Shard, draw_files, keep_settings
from editkit.drawing.grid import Sheet
from editkit.drawing.pipelines import check_drawable, open_denoiser
from editkit.drawing.prompt_file import PromptCase, PromptFile, parse_seeds
from editkit.drawing.refusals import check_drawing
from editkit.drawing.sampler import Job, draw, jobs
from editkit.drawing.sampling import Sampling, Settings
from editkit.drawing.truncation import count_truncated
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.files.atomic import check_free, write_atomic
from editkit.files.text.table import Layout
from editkit.model.checkpoints.source import Source, find
from editkit.progress import progress
from editkit.variants.named import BASE, read_variants, variant_name, variant_sha256

Path_ = str | os.PathLike[str]


def generate(
    prompts: Sequence[str] | Path_,
    out: Path_,
    edit: Path_ | None = None,
    seeds: str = "0",
    model: Path_ | None = None,
    device: str | None = None,
    force: bool = False,
    profile: ProfileOrFile | None = None,
    skip_bad_rows: bool = False,
    columns: str | Mapping[str, str | int] | None = None,
    separator: str | None = None,
    **settings: Unpack[Settings],
) -> Image.Image | tuple[int, int]:
    """Draw prompts: a grid of one row a prompt and one column a seed, or one file a picture for a prompt file.

    Args:
        prompts: prompts, or the path of a prompt file.
        out: a picture file for the grid; for a prompt file a folder, which a second run completes.
        edit: an edit file to draw with, or `RELEASE+KEY`; None is the unedited model.
        seeds: such as `0-7` or `1,4,9`. A row's own seed wins.
        model: as `open_model` takes it.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        force: replace a picture that is at `out`.
        profile: what the model brings along, or a file that says it.
        skip_bad_rows: leave out rows of a prompt file that cannot be used, and say so.
        columns: of a prompt file: which column is what, such as "prompt=TEXT,seed=SEED".
        separator: of its columns, where the file does not show it.
        settings: of `editkit.drawing.sampling.Settings`.

    Returns:
        The grid; for a prompt file how many pictures were drawn, and how many were there already.

    Raises:
        EditkitError: the model cannot be drawn, the edit does not fit it, or `out` cannot be written.

    >>> import tempfile
    >>> generate(["a church"], f"{tempfile.mkdtemp()}/a.png", seeds="0-1", model="emoji", steps=1).size
    (340, 169)
    """
    if isinstance(prompts, str | os.PathLike):
        return generate_folder(
            model, Path(prompts), edit, seeds, Path(out), device, skip_bad_rows, profile, columns, separator,
            **settings,
        )  # fmt: skip
    compared = [BASE if edit is None else os.fspath(edit)]
    return compare_grid(model, compared, prompts, seeds, Path(out), device, force, profile, **settings)


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
    sampling = Sampling.for_model(source, **settings)
    check_drawing(source, sampling, variants)
    denoiser = open_denoiser(source, device or Shard.from_environment().device(), sampling.placement)
    drawing = draw(denoiser, wanted, variants, sampling)
    sheet = variants_grid(progress(drawing, len(wanted), "drawing"), prompts, names, seeds)
    if sheet.is_reduced:
        warnings.warn(f"{sheet.says_reduced}; fewer at a time, or a folder, keep them whole", stacklevel=3)
    return sheet.picture


def variants_grid(
    drawn: Iterable[tuple[Job, Image.Image]], prompts: Sequence[str], variants: Sequence[str], seeds: Sequence[int]
) -> Sheet:
    """One row a prompt and variant, one column a seed. `drawn` is read once and not kept."""
    names = [prompt if len(variants) == 1 else f"{prompt} | {name}" for prompt in prompts for name in variants]
    places: dict[Job, list[tuple[int, int]]] = {}
    for p, prompt in enumerate(prompts):
        for n in range(len(variants)):
            for column, seed in enumerate(seeds):
                places.setdefault(Job(prompt, seed, n), []).append((p * len(variants) + n, column))
    sheet = None
    for job, picture in drawn:
        if sheet is None:
            scale = 2 if picture.width < 100 else 1
            sheet = Sheet(picture.size, len(names), len(seeds), names, [str(seed) for seed in seeds], scale)
        for place in places[job]:
            sheet.place(picture, *place)
    if sheet is None:
        raise EditkitError("nothing to draw; give at least one prompt, seed and variant")
    return sheet


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
    check_drawing(source, sampling, variants)
    made = {"model": source.name, "edit": variant_sha256(name), **sampling.record}
    if guidances != [None]:
        made["guidance of the rows"] = True
    if shard.is_first:
        keep_settings(out, made)
    denoiser = open_denoiser(source, device or shard.device(), sampling.placement)
    if shard.is_first:
        count_truncated(denoiser, (case.prompt for case in cases))
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
