"""Write an edit as weights that other programs load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit.edits.edit import check_ungated
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.checkpoints.source import Source
from editkit.model.editable import EditableModel
from editkit.model.encoder_weights import encoders_of
from editkit.model.formats.format import Format, Held, Stored, WriteReport
from editkit.options import assign_options
from editkit.plugins import load, loadable
from editkit.variants.fit import check_fit


@dataclass(frozen=True)
class ExportReport(WriteReport):
    """What was written.

    Attributes:
        count: edited projections.
    """

    count: int = 0


def export(
    edit: Variant,
    model: EditableModel,
    path: Path | str,
    format: str = "kv",
    force: bool = False,
    **options: Any,
) -> ExportReport:
    """Write `edit`, applied to `model`, to `path` as other programs load it.

    Args:
        format: a name of `editkit formats`.
        force: replace what is at `path`, and write an edit that was computed from another checkpoint.
        options: of the format, such as `rank`; what is None has its default.

    Raises:
        EditkitError: the edit does not fit the model, the format does not fit the model, or `path` cannot be written.
    """
    path = Path(path)
    kind, what = _format_for(format, model.source, edit), f"format {format}"
    writer = kind(**assign_options({what: kind}, options)[what])
    _check_apart(path, model.source.path)
    writer.check_free(path, force)
    check_ungated(edit)
    check_fit(edit, model, force)
    weights = model.tensors(edit)
    written = writer.export(edit, weights, model, path, force)
    return ExportReport(**vars(written), count=sum(edit.changes(name) for name in weights))


def _format_for(name: str, source: Source, edit: Variant) -> type[Format]:
    """The format, if it is one for such an edit, and for a model that is stored so."""
    kind = load("formats", name)
    if not kind.suits(source.family):
        suit = [other for other, known in loadable("formats").items() if known.suits(source.family) and not known.reads]
        raise EditkitError(
            f"--format {name}: no program loads it for {source.family.title}; use --format {' or '.join(suit)}"
        )
    changed: Held = "text encoders" if encoders_of(edit.names) else "denoiser"
    if changed not in kind.holds:
        suit = [other for other, known in loadable("formats").items() if changed in known.holds]
        raise EditkitError(
            f"--format {name}: holds no weights of the {changed}, which this edit changed; use --format "
            f"{' or '.join(suit)}"
        )
    stored: Stored = "single file" if source.is_single_file else "folder"
    if kind.reads not in (None, stored):
        have = "a single-file checkpoint" if source.is_single_file else "a diffusers folder"
        suit = [other for other, known in loadable("formats").items() if known.reads == stored]
        raise EditkitError(f"--format {name}: model {source.name} is {have}; use --format {' or '.join(suit)}")
    return kind


def _check_apart(path: Path, model: Path) -> None:
    """Whatever the flags, the model itself is not overwritten."""
    target, source = path.resolve(), model.resolve()
    if target == source or source in target.parents:
        raise EditkitError(f"{path}: is the model itself, or lies in its folder; give another --out")
