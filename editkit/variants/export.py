"""Write an edit as weights that other programs load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.files.atomic import check_free, write_atomic
from editkit.files.atomic_folder import check_free_folder
from editkit.model.checkpoints.source import Source
from editkit.model.editable import EditableModel
from editkit.model.formats import diffusers_folder, kohya, kv, lora, single_file
from editkit.variants.fit import check_fit

FORMATS = {
    "kv": "state dict of what was changed, for `load_state_dict(strict=False)`",
    "diffusers": "a whole pipeline folder, for `from_pretrained`",
    "single-file": "the given checkpoint with the edit in it, for WebUI and ComfyUI",
    "lora": "LoRA for `pipe.load_lora_weights`",
    "kohya": "LoRA for WebUI and ComfyUI",
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        count: edited projections.
        error: the largest relative error of a layer's change: what a LoRA's cut or rounding to float8 loses, 0
            elsewhere.
        left_out: files of the source folder that were not carried over, such as pickles, and components, with the
            reason: the new `model_index.json` says null for them.
        variant: what diffusers must be told to load the folder, `fp16` for example, where a component has no other.
    """

    count: int
    error: float = 0.0
    left_out: tuple[str, ...] = ()
    variant: str | None = None


def export(
    edit: Variant,
    model: EditableModel,
    path: Path | str,
    format: str = "kv",
    force: bool = False,
    rank: int | None = None,
) -> Exported:
    """Write `edit`, applied to `model`, to `path` in one of `FORMATS`; with diffusers' tensor names unless they say so.

    Args:
        force: replace what is at `path`, and write an edit that was computed from another checkpoint.
        rank: LoRA formats: directions to keep of every layer; all by default, which is exact.

    Raises:
        EditkitError: the edit does not fit the model, the format does not fit the model, or `path` cannot be written.
    """
    path = Path(path)
    if format not in FORMATS:
        raise EditkitError(f"--format: must be one of {', '.join(FORMATS)}, but got {format!r}")
    if rank is not None and format not in ("lora", "kohya"):
        raise EditkitError(f"--rank: the format {format} is exact; only lora and kohya can be cut to a rank")
    if (format == "single-file") != model.source.is_single_file and format in ("single-file", "diffusers"):
        have = "a single-file checkpoint" if model.source.is_single_file else "a diffusers folder"
        raise EditkitError(
            f"--format {format}: model {model.source.name} is {have}; "
            f"use --format {'single-file' if model.source.is_single_file else 'diffusers'}"
        )
    if rank is not None and rank < 1:
        raise EditkitError(f"--rank: expected at least 1, got {rank}; leave it out for an exact file")
    _check_apart(path, model.source.path)
    (check_free_folder if format == "diffusers" else check_free)(path, force)
    check_fit(edit, model, force)
    weights = model.tensors(edit)
    count = sum(edit.changes(name) for name in weights)
    if format == "diffusers":
        component = model.source.family.component
        written = diffusers_folder.write(edit, weights, model.source.path, component, path, force)
        return Exported(count, written.lost, written.left_out, _variant(model.source))
    errors: list[float] = []
    write = _writer(edit, weights, model, format, rank, errors)
    write_atomic(path, write, force)
    return Exported(count, max(errors, default=0.0))


def _check_apart(path: Path, model: Path) -> None:
    """Whatever the flags, the model itself is not overwritten."""
    target, source = path.resolve(), model.resolve()
    if target == source or source in target.parents:
        raise EditkitError(f"{path}: is the model itself, or lies in its folder; give another --out")


def _variant(source: Source) -> str | None:
    with_weights = [name for name in source.components if list((source.path / name).glob("*.safetensors"))]
    return next(filter(None, map(source.variant, with_weights)), None)


def _writer(
    edit: Variant,
    weights: Mapping[str, Tensor],
    model: EditableModel,
    format: str,
    rank: int | None,
    errors: list[float],
) -> Callable[[Path], None]:
    source, family = model.source, model.source.family
    if format == "kv":
        return lambda part: kv.write(edit, weights, part)
    if format == "single-file":
        return lambda part: errors.append(single_file.write(edit, weights, source.path, part, family.name))
    if format == "lora":
        return lambda part: errors.append(lora.write(edit, weights, part, family.component, rank))
    return lambda part: errors.append(kohya.write(edit, weights, part, family.name, rank))
