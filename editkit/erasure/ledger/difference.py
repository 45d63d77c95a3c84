"""What tells an edit from another: said by name where its record tells, else measured on the maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from editkit.options import flag

if TYPE_CHECKING:
    from editkit.edits.edit import Edit

MOST_NAMED = 5
SAID_OF_EACH = {"guides": "becomes", "synonyms": "is erased with", "found": "is erased with the prompts"}
MADE_WITH = {
    "text_encoder_sha256": "another text encoder",
    "profile": "another profile",
    "projections_sha256": "other weights of the model",
}


@dataclass(frozen=True)
class Verdict:
    """Whether an edit is what a ledger gives.

    Attributes:
        differences: each in words; none: it is.
        apart: how far the maps are from each other, in shares of the change; None: that was not measured.
    """

    differences: tuple[str, ...]
    apart: float | None = None

    @property
    def same(self) -> bool:
        return not self.differences

    @classmethod
    def of(cls, edit: Edit, again: Edit, within: float) -> Verdict:
        """Of an edit beside one made anew, whose maps may be `within` shares of the change apart."""
        told = differences(edit.record, again.record)
        widths, wanted = ({key: each.width for key, each in maps.items()} for maps in (edit.maps, again.maps))
        if widths != wanted:
            return cls((*told, "it changes other weights"))
        apart = max(_apart(edit.maps[key], again.maps[key]) for key in again.maps)
        if not apart <= within:
            told = (*told, f"its map is apart by {apart:.1g} of the change, more than {within:g}")
        return cls(told, apart)


def differences(record: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """In what a record is not as `wanted`, as far as that says anything."""
    told = [*_concepts(record, wanted)]
    if not told and "guides" in wanted:
        for key, what in SAID_OF_EACH.items():
            told += _by_concept(_each(record, key), _each(wanted, key), what)
    if {*record.get("preserve", ())} != {*wanted["preserve"]}:
        told.append(f"it preserves {_listed(record.get('preserve', ()))}, not {_listed(wanted['preserve'])}")
    have = record.get("options", {})
    for name, value in wanted["options"].items():
        if have.get(name, None if name == "method" else value) != value:
            told.append(f"{flag(name)} is {have.get(name)} in it, not {value}")
    told += [f"it was made with {what}" for key, what in MADE_WITH.items() if _is_other(record, wanted, key)]
    return tuple(told)


def _is_other(record: Mapping[str, Any], wanted: Mapping[str, Any], key: str) -> bool:
    """The weights of the model matter to some methods alone."""
    if key not in wanted or (key == "projections_sha256" and not wanted["reads_projections"]):
        return False
    mine, theirs = (each.get(key) for each in (record, wanted))
    return (mine or {}).get("sha256") != theirs["sha256"] if isinstance(theirs, Mapping) else mine != theirs


def _concepts(record: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterable[str]:
    have, asked = record.get("concepts", ()), wanted["concepts"]
    more = [concept for concept in have if concept not in asked]
    less = [concept for concept in asked if concept not in have]
    if more:
        yield f"it erases {_listed(more)}, which {'is' if len(more) == 1 else 'are'} not in the ledger"
    if less:
        yield f"it does not erase {_listed(less)}"


def _each(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Concept → what is said of it."""
    if key == "guides":
        return dict(zip(record["concepts"], record.get(key, ()), strict=False))
    return {concept: sorted(words) for concept, words in record.get(key, {}).items()}


def _by_concept(have: dict[str, Any], wanted: dict[str, Any], what: str) -> Iterable[str]:
    for concept in sorted({*have, *wanted}):
        if have.get(concept) != wanted.get(concept):
            yield f"{concept} {what} {_said(have.get(concept))} in it, not {_said(wanted.get(concept))}"


def _said(value: str | list[str] | None) -> str:
    return _listed(value or ()) if not isinstance(value, str) else value if value.strip() else "nothing"


def _listed(words: Iterable[str]) -> str:
    words = list(words)
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return ", ".join(words[:MOST_NAMED]) + more if words else "nothing"


def _apart(mine: Any, theirs: Any) -> float:
    change = theirs.U @ theirs.V
    return float((mine.U @ mine.V - change).norm() / change.norm().clamp(min=1e-300))
