"""Does an edit fit a model?"""

from __future__ import annotations

import warnings

from editkit.edit.compose import depends_on_projections
from editkit.edit.edit import Edit
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel


def check_fit(edit: Edit, model: EditableModel, force: bool = False) -> None:
    """Refuse an edit of another family or text encoder. Where the map depends on the checkpoint's projections (RECE,
    minimax, technique tensor), refuse another checkpoint's too, unless forced: then warn."""
    family = edit.record.get("family")
    if family != model.source.family.name:
        raise EditkitError(
            f"the edit was made for the family {family}, {model.source.name} is {model.source.family.name}; "
            "make it again for this model"
        )
    for name, W in model.projections.items():
        edit.fitting_map(name, W)
    if edit.record.get("text_encoder_sha256") != model.text_encoder_sha256:
        raise EditkitError(
            f"the edit was made with another text encoder than that of {model.source.name}; make it again for this one"
        )
    if not depends_on_projections(edit.record) or edit.record.get("projections_sha256") == model.projections_sha256:
        return
    if not force:
        raise EditkitError(
            f"this edit was computed from another checkpoint's projections than those of {model.source.name}; "
            "make it again for this one, or give --force to try it as it is"
        )
    warnings.warn(
        f"this edit was computed from other projections than those of {model.source.name}: the embeddings that it "
        "closes off are those of the other checkpoint, so it may erase less and damage more than its figures say",
        stacklevel=2,
    )
