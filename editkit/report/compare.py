"""`editkit compare` with a folder: the same prompts and noise under several variants, as a report."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.generate import variants_grid
from editkit.drawing.prompt_file import parse_seeds
from editkit.drawing.sampling import Sampling, Settings
from editkit.files.atomic_folder import check_free_folder, write_folder_atomic
from editkit.model.checkpoints.source import Source, find
from editkit.model.editable import open_model
from editkit.report.cells import FOLDER
from editkit.report.comparison import Comparison, NamedVariant, make_comparison
from editkit.report.page import render
from editkit.report.plots import Figure
from editkit.report.shares import count_shares
from editkit.variants.named import read_variants, variant_name, variant_sha256
from editkit.versions import RESULTS, versions

Path_ = str | os.PathLike[str]
MARK = "report.json"
"""What a folder must hold to be replaced with `force`."""


def compare_report(
    model: Path_ | None,
    edits: Sequence[str],
    prompts: Sequence[str],
    seeds: str,
    out: Path,
    device: str | None = None,
    force: bool = False,
    vocabulary: Sequence[str] | None = None,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> Comparison:
    """Write `out/index.html`, `out/grid.png`, `out/report.json`, and in `out/pictures` what is too large for a page.

    `edits` are files, or `base`.

    Raises:
        EditkitError: see `make_comparison`; or `out` is there already and `force` is not given.
    """
    check_free_folder(out, force, MARK)
    numbers, source = parse_seeds(seeds), find(model, profile=profile)
    variants = read_compared(source, edits)
    sampling = Sampling.for_model(source, **settings)
    comparison = make_comparison(open_model(source), variants, prompts, numbers, sampling, device, vocabulary, out)
    words = ["editkit", "compare", *edits]
    words += [word for prompt in prompts for word in ("--prompt", prompt)]
    write_report(comparison, out, [*words, "--seeds", seeds], force)
    return comparison


def read_compared(source: Source, edits: Sequence[str]) -> list[NamedVariant]:
    """The variants by file name; names that are alike get their folder before them."""
    loaded = read_variants(source, edits)
    stems = [variant_name(name) for name in edits]
    names = [
        stem if stems.count(stem) == 1 or edit is None else f"{Path(name).parent.name}/{stem}"
        for name, stem, edit in zip(edits, stems, loaded, strict=True)
    ]
    hashes = [variant_sha256(name) for name in edits]
    return [NamedVariant(*row) for row in zip(names, loaded, hashes, strict=True)]


def write_report(
    comparison: Comparison,
    out: Path,
    command: Sequence[str],
    force: bool = False,
    lead: Sequence[Figure] = (),
    notes: Sequence[str] = (),
    more: Callable[[Path], None] | None = None,
) -> None:
    """Fill the folder `out`, whole or not at all. `more` may add files to it.

    Afterwards the comparison's large pictures are read from there.
    """
    page = render(comparison, shlex.join(command), lead, notes)
    names = [variant.name for variant in comparison.variants]

    def fill(folder: Path) -> None:
        (folder / "index.html").write_text(page, encoding="utf-8")
        drawn = comparison.pictures.items()
        variants_grid(drawn, comparison.prompts, names, comparison.seeds).picture.save(folder / "grid.png")
        if comparison.pictures.files:
            comparison.pictures.copy_to(folder / FOLDER)
        (folder / MARK).write_text(json.dumps(as_dict(comparison), indent=1, ensure_ascii=False) + "\n", "utf-8")
        if more is not None:
            more(folder)

    write_folder_atomic(out, fill, force, MARK)
    comparison.pictures.kept(out.resolve() / FOLDER)


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """The numbers of a report, for machines."""
    shares = count_shares(comparison) if comparison.detections else None
    return {
        "model": comparison.model.source.name,
        "profile": comparison.model.profile.record,
        "prompts": list(comparison.prompts),
        "seeds": list(comparison.seeds),
        "sampling": comparison.sampling.record,
        "versions": versions(RESULTS),
        "variants": [
            {
                "name": variant.name,
                "edit_sha256": variant.sha256,
                "record": dict(variant.record),
                "shares": None if shares is None else shares[n].as_dict(),
                "damage": None if (damage := comparison.damage[n]) is None else dict(damage.ranked()),
            }
            for n, variant in enumerate(comparison.variants)
        ],
        "pictures": [
            {**asdict(job), "file": f"{FOLDER}/{file.name}"} for job, file in comparison.pictures.files.items()
        ],
    }
