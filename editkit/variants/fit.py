"""Does an edit fit a model?"""

from __future__ import annotations

import re
import warnings

from editkit.edits.compose import depends_on_projections
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import fingerprint
from editkit.model.editable import EditableModel
from editkit.model.families.family import check_editable


def check_fit(edit: Variant, model: EditableModel, force: bool = False) -> None:
    """Refuse an edit of another family or text encoder. Where the map depends on the checkpoint's projections (RECE,
    minimax, technique tensor, OCE), refuse another checkpoint's too, unless forced: then warn. What was tuned fits one
    checkpoint alone."""
    family = edit.record.get("family")
    if family != model.source.family.name:
        raise EditkitError(
            f"the edit was made for the family {family}, {model.source.name} is {model.source.family.name}; "
            "make it again for this model"
        )
    _check_names(edit, model)
    if not edit.base:
        edit.check_shapes(model.tensors(edit))
    if edit.record.get("text_encoder_sha256") != model.text_encoder_sha256:
        raise EditkitError(
            f"the edit was made with another text encoder than that of {model.source.name}; make it again for this one"
        )
    if edit.base:
        _check_base(edit, model, force)
    elif depends_on_projections(edit.record):
        _check_projections(edit, model, force)


def _check_base(edit: Variant, model: EditableModel, force: bool) -> None:
    tensors = model.tensors(edit)
    edit.check_shapes(tensors)
    other = next((name for name, W in tensors.items() if fingerprint({name: W}) != edit.base[name]), None)
    if other is None:
        return
    if not force:
        raise EditkitError(
            f"{other}: this was refined from another checkpoint than {model.source.name}; refine this one, "
            "or give --force to put its weights in all the same"
        )
    warnings.warn(
        f"this was refined from another checkpoint than {model.source.name}: its tensors replace those of this one",
        stacklevel=3,
    )


def _check_names(edit: Variant, model: EditableModel) -> None:
    """Refuse a map of something that is no projection of the prompt, and say why."""
    for name in edit.keys:
        if not any(name == own or re.fullmatch(name, own) for own in model.projections):
            check_editable(model.source.family, name)


def _check_projections(edit: Variant, model: EditableModel, force: bool) -> None:
    if edit.record.get("projections_sha256") == model.projections_sha256:
        return
    if not force:
        raise EditkitError(
            f"this edit was computed from another checkpoint's projections than those of {model.source.name}; "
            "make it again for this one, or give --force to try it as it is"
        )
    warnings.warn(
        f"this edit was computed from other projections than those of {model.source.name}: the embeddings that it "
        "closes off are those of the other checkpoint, so it may erase less and damage more than its figures say",
        stacklevel=3,
    )
