"""`refine`: train a model away from concepts, from scratch or from an edit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from editkit.concepts.attributes import Attribute
from editkit.concepts.templates import fill
from editkit.drawing.grid import grid
from editkit.drawing.sampler import Job, draw, jobs
from editkit.edits.tuned import Tuned
from editkit.edits.variant import Variant
from editkit.embeddings.learned import Learned
from editkit.erasure.pictured import MASKED
from editkit.errors import EditkitError
from editkit.files.atomic import write_atomic
from editkit.model.editable import ModelLike, open_model
from editkit.tuning import checkpoint
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.loop import Run, train
from editkit.tuning.options import RefineOptions
from editkit.tuning.parameters import Parameters
from editkit.tuning.request import StageRequest, ranking_edit
from editkit.tuning.result import tuned_from
from editkit.tuning.setup import Setup, beside, prepare
from editkit.variants.folder import TUNED_NAME
from editkit.variants.tuned_file import save_tuned
from editkit.versions import versions

PREVIEW_SEEDS = range(4)


def refine(
    model: ModelLike,
    out: Path | str,
    concepts: Sequence[str] = (),
    start: Variant | None = None,
    guides: Sequence[str] = (),
    options: RefineOptions | None = None,
    vocabulary: Sequence[str] | None = None,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    tracker: str | None = None,
    attributes: Sequence[str | Attribute] = (),
    ratios: Sequence[float] | None = None,
    pictures: Sequence[Learned] = (),
) -> Tuned:
    """Train `model` away from `concepts` and write the result to the folder `out`.

    The teacher is the unedited model. `out` holds `tuned.safetensors`, which loads as an edit does, `log.jsonl`, the
    checkpoint, and previews. What each objective is from, `editkit objectives` says.

    >>> import editkit
    >>> from tempfile import mkdtemp
    >>> options = editkit.RefineOptions("esd", steps=1, sampling_steps=2)
    >>> tuned = editkit.refine("emoji", mkdtemp(), ["church"], options=options, device="cpu")
    >>> tuned.record["figures"]["steps"], len(tuned.names)
    (1, 35)

    Args:
        model: as `open_model` takes it, or what it returns.
        out: folder; it must not hold anything, unless `resume` or `force` is given.
        concepts: what to erase. Default: the concepts of `start`.
        start: an edit, or what an earlier run made, that the student starts from. Default: the unedited model.
        guides: what each becomes: a text, empty for the neutral prompt, or `nearest`. One serves all. Default: neutral,
            for `ca` the nearest word, its anchor.
        options: default `RefineOptions.of(profile=model.profile)`.
        vocabulary: words among which the search looks. Default: those of the model's profile.
        device: such as `cpu` or `cuda`. Default: a GPU if there is one.
        resume: go on from the checkpoint in `out`.
        force: replace an earlier run in `out`.
        tracker: one that accelerate knows, such as `tensorboard`.
        attributes: of an objective that balances: two or more, as `debias` takes them.
        ratios: the share that is wanted of each, in all 1; default: those of the attributes, else all alike.
        pictures: what `invert` learned: each is a concept of the name of its word, for which prompts say its tokens, of
            all restarts; and the word as well, where `concepts` has it. With masks it becomes what they leave.

    Raises:
        EditkitError: an impossible request, a loss that is not finite, or too little memory.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
    """
    model = open_model(model)
    options = options or RefineOptions.of(profile=model.profile)
    if options.loss.has_key:
        raise EditkitError(f"--objective {options.objective}: goes with a key; use `editkit hide` or `editkit recover`")
    request = StageRequest(
        model, concepts, start, guides, options, vocabulary, device, tracker, attributes=attributes, ratios=ratios,
        learned=pictures,
    )  # fmt: skip
    return refined(request, run_folder(Path(out), resume, force), resume)


def refined(request: StageRequest, folder: Path, resume: bool = False, more: Mapping[str, Any] | None = None) -> Tuned:
    """What a request comes to, written to its folder; `more` stands in the record, too."""
    stage = run_stage(request, folder, resume)
    tuned = stage.tuned()
    tuned = replace(tuned, record={**tuned.record, **(more or {})})
    if stage.main:
        save_tuned(tuned, folder / TUNED_NAME, force=True)
    return tuned


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
        ours = any((path / name).is_file() for name in (checkpoint.NAME, TUNED_NAME, *more))
        if not (force and ours):
            how = "--resume to go on, or --force to start again" if ours else "another --out"
            raise EditkitError(f"{path} exists and is not overwritten unasked; give {how}")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EditkitError(f"{path}: cannot be written ({error.strerror}); give another --out") from error
    return path


def _run(folder: Path, setup: Setup, request: StageRequest, more: Mapping[str, Any]) -> Run:
    accelerator, options, start = setup.accelerator, request.options, request.start
    if request.tracker is not None:
        accelerator.init_trackers("editkit-refine", config=options.same_run)
    words = [list(own) for own in setup.trainer.passes.prompts.words]
    begun = None if start is None else start.record.get("created")
    same = {"concepts": list(request.concepts), "guides": list(request.guides), "start": begun}
    if request.learned:
        same["pictures"] = [each.sha256 for each in request.learned]
    same["candidates"] = words
    if request.balanced:
        same["attributes"] = _attributes(request)
    return Run(
        folder,
        options.steps,
        options.save_every,
        {**options.same_run, **same, **more},
        lambda done: _preview(setup, request, folder / f"preview-{done:06d}.png"),
        options.preview_every,
        accelerator.is_main_process,
        accelerator.log if request.tracker is not None else lambda values, step: None,
    )


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
