"""Does an edit fit a model?"""

from __future__ import annotations

from editkit.edit.edit import Edit
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel


def depends_on_projections(edit: Edit) -> bool:
    """Whether the map was computed from the checkpoint's projections and not from its text encoder alone."""
    options = edit.record.get("options", {})
    return options.get("method") == "rece" or options.get("protect") == "minimax" or not edit.is_global


def check_fit(edit: Edit, model: EditableModel, force: bool = False) -> None:
    """Refuse an edit that was made for another text encoder; refuse another checkpoint's, unless forced, where the
    map depends on the checkpoint."""
    if edit.width != model.encoder.width:
        raise EditkitError(
            f"the edit is for text embeddings of width {edit.width}, {model.source.name} has {model.encoder.width}; "
            "use the model that the edit was made for"
        )
    if edit.record.get("text_encoder_sha256") != model.encoder.fingerprint:
        raise EditkitError(
            f"the edit was made with another text encoder than that of {model.source.name}; make it again for this one"
        )
    same = edit.record.get("projections_sha256") == model.fingerprint
    if depends_on_projections(edit) and not same and not force:
        raise EditkitError(
            f"this edit was computed from another checkpoint's projections than those of {model.source.name}; "
            "make it again for this one, or give --force to try it as it is"
        )
