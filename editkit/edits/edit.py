"""An edit: its maps, and the record of how it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.errors import EditkitError

EVERYWHERE = "*"


@dataclass(frozen=True)
class Edit:
    """The result of `erase` or `edit`: apart from any model, and applied to it with `applied`.

    Attributes:
        maps: which projections → map. A key is a projection's name, or a regular expression that matches whole names
            (`.*attn2\\.to_[kv]\\.weight`), or `"*"` for all others. The single entry `"*"` is the usual case.
        record: method, concepts, guides, preserved prompts, options, family, hashes, figures, versions, time.
    """

    maps: Mapping[str, EditMap]
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_global(self) -> bool:
        """Whether one map serves every projection, so that it can act on prompt embeddings instead."""
        return set(self.maps) == {EVERYWHERE}

    @property
    def map(self) -> EditMap:
        """The one map of a global edit."""
        if not self.is_global:
            raise EditkitError("this edit has several maps; export it or apply it to the weights instead")
        return self.maps[EVERYWHERE]

    def map_for(self, projection: str) -> EditMap | None:
        """The map of one projection, or None where the edit leaves it alone."""
        if projection in self.maps:
            return self.maps[projection]
        matching = (one for key, one in self.maps.items() if key != EVERYWHERE and re.fullmatch(key, projection))
        return next(matching, self.maps.get(EVERYWHERE))

    def changes(self, name: str) -> bool:
        """Whether it edits the projection of that name."""
        return self.map_for(name) is not None

    def fitting_map(self, projection: str, W: Tensor) -> EditMap | None:
        """`map_for`, for the weight `W` `(o, d)` of the projection.

        Raises:
            EditkitError: the map is for embeddings of another width than `W` reads.
        """
        one = self.map_for(projection)
        if one is not None and one.width != W.shape[1]:
            raise EditkitError(
                f"{projection}: the edit is for embeddings of width {one.width}, the model has {W.shape[1]}; "
                "use the model family that the edit was made for"
            )
        return one

    def weights(self, projections: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The edited projections `W M`, each in its own dtype."""
        edited = {}
        for name, W in projections.items():
            one = self.fitting_map(name, W)
            if one is None:
                continue
            edited[name] = one.weight(W)
            if not edited[name].isfinite().all():
                raise EditkitError(
                    f"{name}: the edited weights do not fit {W.dtype}, or were not finite before; use a weaker edit"
                )
        return edited

    def then(self, later: Edit) -> Edit:
        """Both edits, this one first. The order matters. See `editkit.edits.compose`."""
        from editkit.edits.compose import compose

        return compose(self, later)

    def scale(self, strength: float) -> Edit:
        """0 is no edit, 1 the whole, between them an interpolation. See `editkit.edits.compose`."""
        from editkit.edits.compose import scale

        return scale(self, strength)

    def applied(self, pipe: Any) -> AbstractContextManager[Any]:
        """`with edit.applied(pipe): ...` draws with the edit; afterwards `pipe` has its very bits back."""
        from editkit.model.apply import applied

        return applied(pipe, self)
