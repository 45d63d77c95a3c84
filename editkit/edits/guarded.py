"""A variant that is drawn with a guard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.gate import Gate
from editkit.edits.guards import Guard, led_from
from editkit.edits.low_rank import LowRank
from editkit.edits.variant import TextStream, Variant


@dataclass(frozen=True)
class Guarded:
    """`variant`, or the unedited model where that is None, drawn with a guard: in all else it is that variant.

    Attributes:
        text: the guard as it is typed.
    """

    variant: Variant | None
    guard: Guard
    text: str

    @property
    def record(self) -> Mapping[str, Any]:
        return guarded_record({} if self.variant is None else self.variant.record, self.guard, self.text)

    @property
    def kind(self) -> Literal["edit", "tuned"]:
        return "edit" if self.variant is None else self.variant.kind

    @property
    def names(self) -> tuple[str, ...] | None:
        return () if self.variant is None else self.variant.names

    @property
    def keys(self) -> tuple[str, ...]:
        return () if self.variant is None else self.variant.keys

    @property
    def base(self) -> Mapping[str, str]:
        return {} if self.variant is None else self.variant.base

    @property
    def is_low_rank(self) -> bool:
        return self.variant is not None and self.variant.is_low_rank

    @property
    def gate(self) -> Gate | None:
        return None if self.variant is None else self.variant.gate

    def changes(self, name: str) -> bool:
        return self.variant is not None and self.variant.changes(name)

    def weights(self, base: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        return {} if self.variant is None else self.variant.weights(base)

    def check_shapes(self, base: Mapping[str, Tensor], /) -> None:
        if self.variant is not None:
            self.variant.check_shapes(base)

    def low_rank(self, base: Mapping[str, Tensor], /, error: float) -> dict[str, LowRank]:
        return {} if self.variant is None else self.variant.low_rank(base, error)

    def change_roots(self, base: Mapping[str, Tensor], /, gram: Tensor) -> Iterator[Tensor]:
        if self.variant is not None:
            yield from self.variant.change_roots(base, gram)

    def stream_maps(self, streams: Mapping[str, TextStream], /) -> Mapping[str, EditMap] | None:
        return {} if self.variant is None else self.variant.stream_maps(streams)

    def with_key(self, prompt: str, text: Tensor, /) -> Tensor:
        return text if self.variant is None else self.variant.with_key(prompt, text)


def guarded_record(record: Mapping[str, Any], guard: Guard, text: str) -> dict[str, Any]:
    """That of a variant with a guard: it leads away from more than the variant erases."""
    concepts = list(dict.fromkeys([*record.get("concepts", ()), *led_from(guard)]))
    return {"method": "guard", **record, "concepts": concepts, "guard": text}


def guard_of(variant: Variant | None) -> Guard | None:
    """The guard that a variant is drawn with."""
    return variant.guard if isinstance(variant, Guarded) else None
