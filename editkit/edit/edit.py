"""An edit: its maps, and the record of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from editkit.edit.edit_map import EditMap
from editkit.errors import EditkitError

EVERYWHERE = "*"


@dataclass(frozen=True)
class Edit:
    """The result of `erase` or `edit`: apart from any model, and applied to it with `editkit.model.apply`.

    Attributes:
        maps: projection name → map. A single entry `"*"` serves all projections: the usual case.
        record: method, concepts, guides, preserved prompts, options, family, hashes, figures, versions, time.
    """

    maps: Mapping[str, EditMap]
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_global(self) -> bool:
        """Whether one map serves every projection, so that it can act on prompt embeddings instead."""
        return EVERYWHERE in self.maps

    @property
    def map(self) -> EditMap:
        """The one map of a global edit."""
        if not self.is_global:
            raise EditkitError("this edit has a map per projection; export it or apply it to the weights instead")
        return self.maps[EVERYWHERE]

    @property
    def width(self) -> int:
        return next(iter(self.maps.values())).width

    def map_for(self, projection: str) -> EditMap | None:
        """The map of one projection, or None where the edit leaves it alone."""
        return self.maps.get(projection, self.maps.get(EVERYWHERE))

    def weights(self, projections: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The edited projections `W M`, each in its own dtype."""
        edited = {}
        for name, W in projections.items():
            one = self.map_for(name)
            if one is None:
                continue
            if W.shape[1] != one.width:
                raise EditkitError(
                    f"{name}: the edit is for embeddings of width {one.width}, the model has {W.shape[1]}; "
                    "use the model family that the edit was made for"
                )
            edited[name] = one.weight(W)
        return edited
