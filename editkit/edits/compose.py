"""Edits made of edits: one after another, or part of the way."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.errors import EditkitError


def compose(first: Edit, later: Edit) -> Edit:
    """`first`, then `later`: weights become `(W M) M_later`, so the order matters and is recorded.

    Raises:
        EditkitError: the two were made for different text encoders or families, or share no projection.
    """
    for key, what in (("family", "model family"), ("text_encoder_sha256", "text encoder")):
        mine, theirs = first.record.get(key), later.record.get(key)
        if mine != theirs:
            raise EditkitError(
                f"edits of different {what}s cannot be composed: {_short(mine)} and {_short(theirs)}; "
                "make both for the same model"
            )
    maps = {}
    for key in sorted({*first.maps, *later.maps}):
        pair = [edit_map for edit_map in (first.map_for(key), later.map_for(key)) if edit_map is not None]
        maps[key] = _both(*pair) if len(pair) == 2 else pair[0]
    return Edit(maps, _record([first, later]))


def scale(edit: Edit, strength: float) -> Edit:
    """Every map part of the way: `I + strength · U V`. A hard edit is soft then, and warns of it."""
    if not -10 <= strength <= 10:
        raise EditkitError(f"--scale: expected a number between -10 and 10, got {strength}; 0.5 is half the edit")
    if strength not in (0, 1) and edit.record.get("options", {}).get("hard"):
        warnings.warn(
            f"scaled by {strength:g} a hard edit can be inverted again: embeddings bring the concept back", stacklevel=2
        )
    record = {key: value for key, value in edit.record.items() if key != "figures"}
    maps = {key: edit_map.scale(strength) for key, edit_map in edit.maps.items()}
    return Edit(maps, record | {"scale": strength * edit.record.get("scale", 1.0)})


def depends_on_projections(record: Mapping[str, Any]) -> bool:
    """Whether an edit was computed from the checkpoint's projections and not from its text encoder alone."""
    if "reads_projections" in record:
        return record["reads_projections"]
    if record.get("parts"):
        return any(depends_on_projections(part) for part in record["parts"])
    options = record.get("options", {})  # version 0.1 did not write it down
    per_layer = options.get("technique") == "tensor"
    return options.get("method") == "rece" or options.get("protect") == "minimax" or per_layer


def _both(first: EditMap, other: EditMap) -> EditMap:
    if first.width != other.width:
        raise EditkitError(f"edits of widths {first.width} and {other.width} cannot be composed; use one model family")
    return first.then(other.to(first.U.device))


def _record(parts: list[Edit]) -> dict[str, Any]:
    records = [edit.record for edit in parts]
    made_for = {record.get("projections_sha256") for record in records if depends_on_projections(record)}
    joined: dict[str, Any] = {
        key: [item for record in records for item in record.get(key, [])] for key in ("concepts", "guides", "preserve")
    }
    shared = {key: records[0].get(key) for key in ("model", "family", "text_encoder_sha256")}
    # Figures are those of one solve: the parts keep theirs, the whole has none.
    return {
        "method": "compose",
        **joined,
        **shared,
        "projections_sha256": next(iter(made_for)) if len(made_for) == 1 else None,
        "parts": [dict(record) for record in records],
    }


def _short(value: Any) -> str:
    return str(value)[:12]
