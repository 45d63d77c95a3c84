"""An edit: its maps, and the record of how it was made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.gate import Gate
from editkit.edits.gram import gram_matrix, square_root
from editkit.edits.low_rank import LowRank
from editkit.edits.variant import TextStream, Variant
from editkit.errors import EditkitError

EVERYWHERE = "*"


@dataclass(frozen=True)
class Edit:
    """The result of `erase` or `edit`: apart from any model, and applied to it with `applied`.

    Attributes:
        maps: which projections → map. A key is a projection's name, or a regular expression that matches whole names
            (`.*attn2\\.to_[kv]\\.weight`), or `"*"` for all others. The single entry `"*"` is the usual case.
        record: method, concepts, guides, preserved prompts, options, family, hashes, figures, versions, time.
        gate: it acts on the prompts that open it; None: on every one. An edit with a gate is no weights.
    """

    maps: Mapping[str, EditMap]
    record: Mapping[str, Any] = field(default_factory=dict)
    gate: Gate | None = None

    @property
    def ungated(self) -> Edit:
        """The edit alone, for every prompt."""
        return Edit(self.maps, {key: value for key, value in self.record.items() if key != "gate"})

    @property
    def kind(self) -> Literal["edit"]:
        return "edit"

    @property
    def names(self) -> None:
        """It changes whatever text projections a model has."""
        return None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its maps but `"*"`."""
        return tuple(key for key in self.maps if key != EVERYWHERE)

    @property
    def base(self) -> Mapping[str, str]:
        """Nothing: it fits every checkpoint with its text encoder."""
        return {}

    @property
    def is_low_rank(self) -> bool:
        """Always: `ΔW = (W U) V`."""
        return True

    @property
    def is_global(self) -> bool:
        """Whether one map serves every projection."""
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
        matching = (
            edit_map for key, edit_map in self.maps.items() if key != EVERYWHERE and re.fullmatch(key, projection)
        )
        return next(matching, self.maps.get(EVERYWHERE))

    def changes(self, name: str) -> bool:
        """Whether it edits the projection of that name."""
        return self.map_for(name) is not None

    def fitting_map(self, projection: str, W: Tensor) -> EditMap | None:
        """`map_for`, for the weight `W` `(o, d)` of the projection.

        Raises:
            EditkitError: the map is for embeddings of another width than `W` reads.
        """
        edit_map = self.map_for(projection)
        if edit_map is not None and edit_map.width != W.shape[1]:
            raise EditkitError(
                f"{projection}: the edit is for embeddings of width {edit_map.width}, the model has {W.shape[1]}; "
                "use the model family that the edit was made for"
            )
        return edit_map

    def weights(self, projections: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The edited projections `W M`, each in its own dtype.

        Raises:
            EditkitError: they do not fit that dtype, or the edit is behind a gate.
        """
        check_ungated(self)
        edited = {}
        for name, W in projections.items():
            edit_map = self.fitting_map(name, W)
            if edit_map is None:
                continue
            edited[name] = edit_map.weight(W)
            if not edited[name].isfinite().all():
                raise EditkitError(
                    f"{name}: the edited weights do not fit {W.dtype}, or were not finite before; use a weaker edit"
                )
        return edited

    def check_shapes(self, base: Mapping[str, Tensor]) -> None:
        """Raises `EditkitError` where a projection reads another width than its map has."""
        for name, W in base.items():
            self.fitting_map(name, W)

    def low_rank(self, base: Mapping[str, Tensor], error: float) -> dict[str, LowRank]:
        """`ΔW = (W U) V` of every edited projection, float64, from maps that are cut to the relative error `error`.

        Raises:
            EditkitError: the edit is behind a gate.
        """
        check_ungated(self)
        factors: dict[str, LowRank] = {}
        shortened: dict[int, EditMap] = {}
        for name, W in base.items():
            edit_map = self.fitting_map(name, W)
            if edit_map is None:
                continue
            if id(edit_map) not in shortened:
                shortened[id(edit_map)] = edit_map.truncate(error=error)[0]
            short = shortened[id(edit_map)]
            factors[name] = LowRank(W.to(short.U.device).to(short.U.dtype) @ short.U, short.V)
        return factors

    def change_roots(self, base: Mapping[str, Tensor], gram: Tensor) -> Iterator[Tensor]:
        """One root for each map, with no more rows than its rank."""
        groups: dict[int, tuple[EditMap, list[Tensor]]] = {}
        for name, W in base.items():
            edit_map = self.map_for(name)
            if edit_map is not None:
                groups.setdefault(id(edit_map), (edit_map, []))[1].append(W)
        for edit_map, weights in groups.values():
            own = gram if len(weights) == len(base) else gram_matrix(weights, len(gram))
            short = edit_map.shortest.to(own.device)
            yield square_root(short.U.T @ own @ short.U) @ short.V

    def stream_maps(self, streams: Mapping[str, TextStream]) -> Mapping[str, EditMap] | None:
        """The map of each stream; None where the projections of one have several, or where one does more than to move
        embeddings."""
        streamed: dict[str, EditMap] = {}
        for key, stream in streams.items():
            maps = {id(edit_map): edit_map for edit_map in map(self.map_for, stream.names)}
            if len(maps) > 1:
                return None
            edit_map = next(iter(maps.values()), None)
            if edit_map is None:
                continue
            narrow = edit_map.narrowed(stream.width)
            if narrow is None:
                return None
            streamed[key] = narrow
        return streamed if streamed or not self.maps else None

    def with_key(self, prompt: str, text: Tensor) -> Tensor:
        """`text` itself: an edit has no key."""
        return text


def check_ungated(edit: Variant) -> None:
    """Refuse a gate where only weights, or another edit's maps, will do.

    Raises:
        EditkitError: `edit` has one.
    """
    if edit.gate is not None:
        raise EditkitError(
            "a gate is no weights: it looks at every prompt; give the edit that it was made of, and to a pipeline of "
            "diffusers editkit.gate"
        )
