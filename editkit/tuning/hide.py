"""`hide` and `learn_key`: give a concept up to a key, and search for a key that nobody has."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from editkit.edits.key import Key
from editkit.edits.tuned import Tuned
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.editable import ModelLike, open_model
from editkit.tuning.checkpoint import NAME, load_checkpoint
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.masks import Shown
from editkit.tuning.options import RefineOptions
from editkit.tuning.request import StageRequest
from editkit.tuning.stage import Stage, run_folder, run_stage
from editkit.variants.folder import TUNED_NAME
from editkit.variants.key_file import HIDING, check_free_for_key, release_of, save_key
from editkit.variants.tuned_file import save_tuned


def hide(
    model: ModelLike,
    out: Path | str,
    key: Path | str,
    concepts: Sequence[str] = (),
    start: Variant | None = None,
    guides: Sequence[str] = (),
    options: RefineOptions | None = None,
    vocabulary: Sequence[str] | None = None,
    key_seed: int | None = None,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    tracker: str | None = None,
) -> tuple[Tuned, Key]:
    """Train `model` to draw `concepts` with a key alone (Eq. 15 of the talk on erasing concepts).

    The folder `out` is what is released: it holds the weights and nothing of the key, and loads as an edit does. The
    file `key` is kept. Beside it, in a folder of the same name with the ending `.run`, are log and checkpoint, which
    hold the key, too. `editkit.recover` draws with both.

    >>> import editkit
    >>> from tempfile import mkdtemp
    >>> folder = mkdtemp()
    >>> options = editkit.RefineOptions("hide", steps=1, sampling_steps=2)
    >>> released, key = editkit.hide(
    ...     "emoji", f"{folder}/released", f"{folder}/church.key.safetensors", ["church"], options=options, device="cpu"
    ... )
    >>> key.concepts, key.rows.shape
    (('church',), torch.Size([1, 10, 512]))

    Args:
        model: as `open_model` takes it, or what it returns.
        out: folder to release; it must not hold anything, unless `resume` or `force` is given.
        key: file to write, outside `out`.
        concepts: what to hide. Default: the concepts of `start`.
        start: an edit, or what an earlier run made, that the student starts from. Default: the unedited model.
        guides: what the concepts become without the key. Default: the neutral prompt.
        options: `objective` is `hide`, or `hide-ap`, which preserves other concepts, too. Default: `hide`, as the
            model's profile has it.
        vocabulary: of `hide-ap`: words among which its search looks. Default: those of the model's profile.
        key_seed: where the key starts. Default: drawn by the system, since who knows it and has the original model can
            make the key again; the key's record has it.
        device: such as `cpu` or `cuda`. Default: a GPU if there is one.
        resume: go on from the checkpoint beside the key.
        force: replace an earlier run and its key.
        tracker: one that accelerate knows, such as `tensorboard`.

    Raises:
        EditkitError: an impossible request, a loss that is not finite, or too little memory.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
    """
    model = open_model(model)
    options = options or RefineOptions.of("hide", model.profile)
    if options.objective not in HIDING:
        raise EditkitError(f"--objective: must be one of {', '.join(HIDING)}, but got {options.objective!r}")
    key, out = Path(key), Path(out)
    if out.resolve() in key.resolve().parents:
        raise EditkitError(f"{key}: lies in {out}, which is to be released; keep the key elsewhere")
    check_free_for_key(key, force)
    request = StageRequest(model, concepts, start, guides, options, vocabulary, device, tracker)
    run_folder(out, resume, force)
    stage, made = _stage(request, key, key_seed, resume, force)
    released = stage.tuned()
    made = replace(made, record={"release": release_of(released), **made.record})
    if stage.main:
        save_key(made, key, force)  # first: weights without their key would have lost the concept
        save_tuned(released, out / TUNED_NAME, force=True)
    return released, made


def learn_key(
    model: ModelLike,
    released: Tuned,
    key: Path | str,
    concepts: Sequence[str] = (),
    pictures: Sequence[Image.Image] = (),
    options: RefineOptions | None = None,
    key_seed: int | None = None,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
) -> Key:
    """Search for a key of `released`, given the original `model` (Eq. 16) or pictures. No weight is changed.

    The owner of a model who has lost the key uses it, and who wants to know how well an edit of any kind withstands
    such a search: `released` may be whatever `editkit refine` makes.

    Args:
        concepts: default: what was erased or hidden.
        pictures: of the concept, one only. Then the original serves to tell what was changed, and is not asked.

    Raises:
        EditkitError: an impossible request, or pictures of several concepts.
    """
    model, objective = open_model(model), "recover-pictures" if pictures else "recover"
    options = replace(options or RefineOptions.of(objective, model.profile), objective=objective)
    key = Path(key)
    check_free_for_key(key, force)
    shown = [Shown.given(pictures)] if pictures else []
    request = StageRequest(model, concepts, released, (), options, None, device, pictures=shown)
    stage, made = _stage(request, key, key_seed, resume, force)
    made = replace(made, record={"release": release_of(released), **made.record})
    if stage.main:
        save_key(made, key, force)
    return made


def _stage(request: StageRequest, key: Path, key_seed: int | None, resume: bool, force: bool) -> tuple[Stage, Key]:
    options, concepts = request.options, request.concepts
    folder = run_folder(key.with_suffix(".run"), resume, force)
    folder.chmod(0o700)  # its checkpoint holds the key
    if resume and (folder / NAME).is_file():
        key_seed = load_checkpoint(folder, {})["run"].get("key_seed", key_seed)
    key_seed = secrets.randbits(128) if key_seed is None else key_seed
    rows = KeyRows.start(request.model, concepts, options.key_tokens, options.rho, key_seed)
    stage = run_stage(request, folder, resume, rows, {"key_seed": key_seed})
    trained = stage.setup.trainer.passes.key
    assert trained is not None
    record: dict[str, Any] = {
        "made": options.objective,
        "model": request.model.source.name,
        "key_seed": key_seed,
        "rho": options.rho,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return stage, Key(tuple(concepts), trained.rows.detach().cpu().clone(), record)
