"""`refine`: train a model away from concepts, from scratch or from an edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from editkit.concepts.attributes import Attribute
from editkit.edits.tuned import Tuned
from editkit.edits.variant import Variant
from editkit.embeddings.learned import Learned
from editkit.errors import EditkitError
from editkit.files.names import file_stem
from editkit.model.editable import ModelLike, open_model
from editkit.tuning.checkpoint import has_begun
from editkit.tuning.encoders import check_encoder_run
from editkit.tuning.masks import Shown
from editkit.tuning.options import RefineOptions
from editkit.tuning.request import StageRequest
from editkit.tuning.stage import run_encoders, run_folder, run_stage
from editkit.variants.folder import TUNED_NAME
from editkit.variants.fuse_tuned import fuse_tuned
from editkit.variants.named import free_name
from editkit.variants.tuned_file import save_tuned


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
    shown: Sequence[Shown] = (),
) -> Tuned:
    """Train `model` away from `concepts` and write the result to the folder `out`.

    The teacher is the unedited model. `out` holds `tuned.safetensors`, which loads as an edit does, `log.jsonl`, the
    checkpoint, and previews. What each objective is from, `editkit objectives` says. Where that trains concepts apart
    (`mace`), each of several has a run in a folder of its name there, and `tuned.safetensors` is their fusion.

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
        shown: of `mace` and `fmn`, pictures of each concept, as `Shown.read` and `Shown.given` have them; of `mace`
            with masks, black where it is seen. Default: the teacher draws them, and its attention tells where.

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
        pictures=shown, learned=pictures,
    )  # fmt: skip
    if options.loss.on_states:
        check_encoder_run(request)
    folder = run_folder(Path(out), resume, force)
    if options.loss.on_states:
        tuned = run_encoders(request, folder, resume)
        save_tuned(tuned, folder / TUNED_NAME, force=True)
        return tuned
    if options.loss.apart and len(request.concepts) > 1:
        return _apart(request, folder, resume)
    return refined(request, folder, resume)


def refined(request: StageRequest, folder: Path, resume: bool = False, more: Mapping[str, Any] | None = None) -> Tuned:
    """What a request comes to, written to its folder; `more` stands in the record, too."""
    return _run(request, folder, resume, more)[0]


def _run(
    request: StageRequest, folder: Path, resume: bool, more: Mapping[str, Any] | None = None
) -> tuple[Tuned, bool]:
    """The same, and whether this process writes."""
    stage = run_stage(request, folder, resume)
    tuned = stage.tuned()
    tuned = replace(tuned, record={**tuned.record, **(more or {})})
    if stage.main:
        save_tuned(tuned, folder / TUNED_NAME, force=True)
    return tuned, stage.main


def _apart(request: StageRequest, folder: Path, resume: bool) -> Tuned:
    """A run for each concept in a folder of its name, and what they come to together."""
    parts: list[Tuned] = []
    taken: list[str] = []
    main, any_begun = True, has_begun(folder)
    pictures = [[each] for each in request.pictures] or [[]] * len(request.concepts)
    for concept, guide, own in zip(request.concepts, request.guides, pictures, strict=True):
        taken.append(free_name(file_stem([concept]), taken))
        inside = folder / taken[-1]
        goes_on = resume and (has_begun(inside) or not any_begun)  # with none anywhere, the first run says so
        tuned, main = _run(replace(request, concepts=[concept], guides=[guide], pictures=own), inside, goes_on)
        parts.append(tuned)
    together = fuse_tuned(parts, request.model, vocabulary=request.vocabulary)
    if main:
        save_tuned(together, folder / TUNED_NAME, force=True)
    return together
