"""Did the concept go, what else suffered, and is one edit better than another? Draw, judge, count."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Unpack

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.files import SETTINGS, Shard, draw_files, keep_settings
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.prompt_file import parse_seeds
from editkit.drawing.sampler import Job
from editkit.drawing.sampling import Settings
from editkit.drawing.truncation import count_truncated
from editkit.errors import EditkitError
from editkit.evaluation.judging import Judgement, judge_variant
from editkit.evaluation.known import check_classes
from editkit.evaluation.prepare import Evaluation, prepare
from editkit.evaluation.results import (
    FORMAT_VERSION,
    RESULTS,
    Results,
    check_comparable,
    compare_results,
    read_results,
    write_pictures,
    write_results,
)
from editkit.evaluation.suites.suite import load_suite
from editkit.evaluation.summary import Pictures, differences, summarise
from editkit.files.atomic import check_free
from editkit.files.text.table import Layout
from editkit.model.checkpoints.source import find

Path_ = str | os.PathLike[str]


def evaluate(
    edits: Sequence[Path_],
    suite: str,
    out: Path_,
    model: Path_ | None = None,
    split: str | None = None,
    prompts: Path_ | None = None,
    skip_bad_rows: bool = False,
    columns: str | Mapping[str, str | int] | None = None,
    separator: str | None = None,
    seeds: str | None = None,
    detector: str | None = None,
    metrics: Sequence[str] = (),
    weights: Mapping[str, Path_] | None = None,
    reference: Path_ | None = None,
    against: Path_ | None = None,
    device: str | None = None,
    force: bool = False,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> Results | None:
    """Measure edits with a suite. Pictures, raw detections, `results.json` and `pictures.parquet` go to `out`.

    A run that was stopped draws what is missing when it is started again. Under `accelerate launch` or `torchrun` every
    process draws its part, and the first one judges.

    Args:
        edits: edit files, and `base` for the unedited model.
        suite: a name (`editkit suites`), or a `.toml` file.
        split: of the suite; without it, the one that the edits' concepts are.
        prompts: a prompt file, for suites that want one, or in place of the suite's prompts.
        columns: of `prompts`: which is what, such as "prompt=TEXT,seed=SEED".
        separator: of its columns, where the file does not tell it.
        seeds: such as "0-7", for every prompt; without them a row's own, else the suite's.
        detector: who looks at the pictures, in place of the suite's. Without either: the judge of the model's profile.
        metrics: what is counted, in place of the suite's.
        weights: `clip`, `detector`, `inception`, `lpips`, `lpips-linear` → where they are, if not in the usual place.
        reference: a folder of pictures that the Fréchet distance is from; without it, the unedited model's.
        against: another `results.json` to compare with.
        force: replace earlier results in `out`, and compare even with a result that was made otherwise.
        profile: in place of the model's own: see `find`.

    Returns:
        The results; None in every process but the first.

    Raises:
        EditkitError: whatever cannot work. All that can be is checked before the first picture is drawn.
    """
    out = Path(out)
    _check_place(out, force)
    other = None if against is None else read_results(Path(against))
    chosen = load_suite(suite)
    source = find(model, profile=profile)
    chosen = replace(chosen, detector=detector or chosen.detector, metrics=tuple(metrics) or chosen.metrics)
    rows = chosen.file if prompts is None else Path(prompts)
    numbers = None if seeds is None else parse_seeds(seeds)
    places = {name: Path(path) for name, path in (weights or {}).items()}
    photographs = None if reference is None else Path(reference)
    layout = Layout.of(columns, separator)
    made = prepare(
        out, source, edits, chosen, rows, skip_bad_rows, split, numbers, settings, places, photographs, layout
    )
    if other is not None and not force:
        check_comparable(other, made.protocol)
    results = _draw_and_judge(made, device, force)
    if results is None:
        return None
    if other is not None:
        against_other = compare_results(results, other, made.metrics, force)
        results = replace(results, record={**results.record, "against": against_other})
    write_results(results)
    return results


def _draw_and_judge(made: Evaluation, device: str | None, force: bool) -> Results | None:
    """Every process draws its part; the first one judges, and the others have None."""
    shard = Shard.from_environment()
    if shard.is_first:
        for note in made.notes:
            warnings.warn(note, stacklevel=3)
        _keep_settings(made, force)
    shard.wait()
    truncated = _draw(made, shard, device)
    shard.wait()
    return _judge(made, truncated) if shard.is_first else None


def _check_place(out: Path, force: bool) -> None:
    if out.is_file():
        raise EditkitError(f"{out}: expected a folder for pictures and results, this is a file; give another --out")
    check_free(out / RESULTS, force)
    if find_spec("pyarrow") is None:
        raise EditkitError("pictures.parquet needs pyarrow, which is not installed; pip install 'editkit[eval]'")


def _keep_settings(made: Evaluation, force: bool) -> None:
    """Note what every variant's pictures are made with; with `force`, drop those that were made otherwise."""
    for entry in made.entries:
        folder = made.folder(entry.name).pictures
        settings = {"edit": entry.sha256, **made.picture_settings}
        try:
            keep_settings(folder, settings)
        except EditkitError:
            if not force:
                raise
            for asked in made.plan:
                (folder / asked.file).unlink(missing_ok=True)
            (folder / SETTINGS).unlink()
            keep_settings(folder, settings)


def _draw(made: Evaluation, shard: Shard, device: str | None) -> int:
    """Draw what is missing; returns how many prompts are cut."""
    denoiser = open_denoiser(made.source, device or shard.device(), made.sampling.placement)
    truncated = count_truncated(denoiser, (case.prompt for case in made.plan)) if shard.is_first else 0
    variants = [entry.variant for entry in made.entries]
    for guidance in made.guidances:
        sampling = made.sampling if guidance is None else replace(made.sampling, guidance=guidance)
        draw_files(denoiser, _wanted(made, guidance), variants, sampling, shard, made.total * len(variants))
    return truncated


def _wanted(made: Evaluation, guidance: float | None) -> Iterator[tuple[Job, Path]]:
    """The pictures of one guidance, the variants of each side by side."""
    for asked in made.plan:
        if made.guidances == [None] or asked.guidance == guidance:
            for number, entry in enumerate(made.entries):
                yield Job(asked.prompt, asked.seed, number), made.folder(entry.name).pictures / asked.file


def _judge(made: Evaluation, truncated: int) -> Results:
    judged: dict[str, Judgement] = {}
    base = made.base
    order = sorted(made.entries, key=lambda entry: entry.name != base)
    for entry in order:
        original = made.folder(base) if base is not None and entry.name != base else None
        folder = made.folder(entry.name)
        judged[entry.name] = judge_variant(
            made.plan, folder, made.detector, made.metrics, original, made.total, f"judging {entry.name}"
        )
    judged = {entry.name: judged[entry.name] for entry in made.entries}
    check_classes(
        made.plan,
        made.metrics,
        made.detector.name,
        {label for judgement in judged.values() for label in judgement.labels},
    )
    write_pictures(made.out, made.plan, judged)
    return Results(made.out, _record(made, judged, truncated))


def _record(made: Evaluation, judged: Mapping[str, Judgement], truncated: int) -> dict[str, Any]:
    """The contents of `results.json`."""
    columns = zip(*((case.label, case.role, case.prompt, case.seed) for case in made.plan), strict=True)
    pictures = Pictures.of(*columns)
    numbers = {name: judgement.numbers for name, judgement in judged.items()}
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "protocol": made.protocol,
        "variants": [entry.record for entry in made.entries],
        "pictures": made.total,
        "truncated_prompts": truncated,
        "errors": {name: judgement.error_count for name, judgement in judged.items()},
        "warnings": list(made.notes),
        "intervals": {"level": 0.95, "clusters": pictures.unit, "count": len(set(pictures.clusters))},
        "metrics": summarise(
            made.metrics, numbers, {name: judgement.sets for name, judgement in judged.items()}, pictures
        ),
        "differences": differences(made.metrics, numbers, pictures),
    }
