"""A run of a gradient stage: set up, trained, written down."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from editkit.concepts.templates import fill
from editkit.drawing.files import Shard
from editkit.drawing.grid import grid
from editkit.drawing.sampler import Job, draw, jobs
from editkit.edits.tuned import Tuned
from editkit.erasure.pictured import MASKED
from editkit.errors import EditkitError
from editkit.files.atomic import write_atomic
from editkit.tuning import checkpoint
from editkit.tuning.encoders import EncoderTrainer
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.loop import Run, train
from editkit.tuning.parameters import Parameters
from editkit.tuning.request import StageRequest, ranking_edit
from editkit.tuning.result import tuned_from
from editkit.tuning.setup import Setup, beside, prepare
from editkit.variants.folder import TUNED_NAME
from editkit.versions import versions

PREVIEW_SEEDS = range(4)


@dataclass(frozen=True)
class Stage:
    """A run that has ended."""

    request: StageRequest
    setup: Setup
    record: dict[str, Any]
    main: bool
    changed: Tuned | None

    def tuned(self) -> Tuned:
        """What it changed of the model."""
        assert self.changed is not None
        return replace(self.changed, record=self.record)


def run_stage(
    request: StageRequest,
    folder: Path,
    resume: bool = False,
    key: KeyRows | None = None,
    same: Mapping[str, Any] | None = None,
) -> Stage:
    """Train; log, checkpoints and previews go to `folder`. `same` is what a resumed run must have in common, too."""
    begun = time.perf_counter()
    setup = prepare(request, folder, key, ranking_edit(request))
    folder.mkdir(exist_ok=True)  # of one concept among several: now that no process looks for an earlier run any more
    run = _run(folder, setup, request, same or {})
    changed = None
    try:
        log = train(setup.trainer, run, resume)
        if request.options.loss.weights:  # while the processes still know each other
            changed = _changed(request, setup)
    finally:
        _release(setup)
    figures = _figures(setup, log, time.perf_counter() - begun)
    return Stage(request, setup, {**_record(request), "figures": figures}, run.main, changed)


def run_encoders(request: StageRequest, folder: Path, resume: bool) -> Tuned:
    """The same where text encoders are trained, and no denoiser."""
    begun, options = time.perf_counter(), request.options
    trainer = EncoderTrainer.of(request, torch.device(request.device or Shard.from_environment().device()))
    log = train(trainer, Run(folder, options.steps, options.save_every, _same_run(request), lambda done: None), resume)
    figures = {
        "steps": len(log),
        "encodings": trainer.rows,
        "erase_first": log[0]["erase"],
        "erase_last": log[-1]["erase"],
        "seconds": {"run": round(time.perf_counter() - begun, 2)},
    }
    return trainer.tuned(request.model.source, {**_record(request), "figures": figures})


def _changed(request: StageRequest, setup: Setup) -> Tuned:
    parameters = Parameters.parse(request.options.param)
    return tuned_from(setup.denoiser.network, parameters, request.start, request.model.source, {})


def run_folder(path: Path, resume: bool, force: bool, *more: str) -> Path:
    """The folder to write to. What is replaced with `force` must be a run's: never anything else.

    Args:
        more: files besides those of every run by which it is known.
    """
    if path.exists() and not path.is_dir():
        raise EditkitError(f"{path}: expected a folder for the run, this is a file; give another --out")
    if not resume and path.is_dir() and any(path.iterdir()):
        ours = checkpoint.has_begun(path) or any((path / name).is_file() for name in (TUNED_NAME, *more))
        if not (force and ours):
            how = "--resume to go on, or --force to start again" if ours else "another --out"
            raise EditkitError(f"{path} exists and is not overwritten unasked; give {how}")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EditkitError(f"{path}: cannot be written ({error.strerror}); give another --out") from error
    return path


def _run(folder: Path, setup: Setup, request: StageRequest, more: Mapping[str, Any]) -> Run:
    accelerator, options = setup.accelerator, request.options
    if request.tracker is not None:
        accelerator.init_trackers("editkit-refine", config=options.same_run)
    words = [list(own) for own in setup.trainer.passes.prompts.words]
    return Run(
        folder,
        options.steps,
        options.save_every,
        {**_same_run(request), "candidates": words, **more},
        lambda done: _preview(setup, request, folder / f"preview-{done:06d}.png"),
        options.preview_every,
        accelerator.is_main_process,
        accelerator.log if request.tracker is not None else lambda values, step: None,
    )


def _same_run(request: StageRequest) -> dict[str, Any]:
    """What a resumed run must have in common, of what was asked."""
    begun = None if request.start is None else request.start.record.get("created")
    same = {"concepts": list(request.concepts), "guides": list(request.guides), "start": begun}
    if request.learned:
        same["pictures"] = [each.sha256 for each in request.learned]
    if request.pictures:
        same["shown"] = [each.sha256 for each in request.pictures]
    if request.balanced:
        same["attributes"] = _attributes(request)
    return {**request.options.same_run, **same}


def _preview(setup: Setup, request: StageRequest, path: Path) -> None:
    """What is said for the erased concepts, one row each."""
    prompts = [fill("a {}", text) for text, _ in request.asked]
    told = [fill("a {}", request.shown.named(text)) for text, _ in request.asked]
    sampling = replace(setup.trainer.batches.sampler.sampling, steps=20, batch=8)
    with beside(setup.denoiser), setup.trainer.passes.networks.autocast():  # frozen weights may be in half precision
        drawn = dict(draw(setup.denoiser, jobs(prompts, list(PREVIEW_SEEDS)), sampling=sampling))
    rows = [[drawn[Job(prompt, seed)] for seed in PREVIEW_SEEDS] for prompt in prompts]
    write_atomic(path, grid(rows, told, [str(seed) for seed in PREVIEW_SEEDS]).save, force=True)


def _release(setup: Setup) -> None:
    """Accelerate keeps a state for the whole process and wraps `forward`; another run may want other settings."""
    from accelerate.state import AcceleratorState

    setup.accelerator.end_training()
    setup.accelerator.unwrap_model(setup.trainer.passes.networks.trained, keep_fp32_wrapper=False)
    AcceleratorState._reset_state(reset_partial_state=setup.accelerator.num_processes == 1)


def _record(request: StageRequest) -> dict[str, Any]:
    model, start = request.model, request.start
    record = {
        "method": request.options.objective,
        "concepts": list(request.concepts),
        "guides": [
            MASKED if request.shown.is_masked(word) else guide
            for word, guide in zip(request.concepts, request.guides, strict=True)
        ],
        "preserve": [],
        "options": request.options.record,
        "model": model.source.name,
        "family": model.source.family.name,
        "profile": model.profile.record,
        "text_encoder_sha256": model.text_encoder_sha256,
        "projections_sha256": model.projections_sha256,
        "versions": versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if request.balanced:
        record["attributes"] = _attributes(request)
    if request.learned:
        record["pictures"] = {each.word: request.shown.told(each) for each in request.learned}
    if request.pictures:
        concepts = [said for said, _ in request.asked]
        record["shown"] = {word: shown.record for word, shown in zip(concepts, request.pictures, strict=True)}
    if start is not None:
        record["start"] = {"kind": start.kind, **start.record}
    return record


def _attributes(request: StageRequest) -> list[dict[str, Any]]:
    return [{"name": each.name, "phrase": each.phrase, "ratio": each.ratio} for each in request.balanced]


def _figures(setup: Setup, log: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    counter = setup.trainer.passes.networks.counter
    steps = max(1, len(log))
    return {
        "steps": len(log),
        "passes": dict(counter.rows),
        "passes_per_step": round(counter.total / steps, 2),
        "calls": dict(counter.calls),
        "erase_mean": sum(step["erase"] for step in log) / steps,
        "preserve_mean": sum(step["preserve"] for step in log) / steps,
        "seconds_per_step": round(sum(step["seconds"] for step in log) / steps, 4),
        "seconds": {"run": round(seconds, 2)},
    }
