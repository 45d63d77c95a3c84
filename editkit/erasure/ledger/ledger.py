"""`editkit ledger`: the concepts that a model must not draw, of which some come and some go.

What is kept is what was asked for, never a map: every edit is solved anew, all concepts together and in one order. So
it does not matter in which order they came, and one that is withdrawn leaves no trace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit.erasure.ledger.difference import Verdict, differences
from editkit.erasure.ledger.entries import NOTES, LedgerEntry, check_entries, follow_guides, owners_of, plain
from editkit.erasure.ledger.file import ledger_text, read_ledger
from editkit.errors import EditkitError
from editkit.files.atomic import write_text_atomic

if TYPE_CHECKING:
    from editkit.edits.edit import Edit
    from editkit.edits.method import Method
    from editkit.model.editable import EditableModel, ModelLike

WITHIN = 1e-4
"""How far a map may be from what the ledger gives, in shares of the change. On one machine it is 1e-7, what float32
leaves; on another processor, or with another number of threads, text encoders round otherwise: 1e-5 was seen."""


@dataclass(frozen=True)
class Ledger:
    """What is erased from a model, and how. A ledger is never changed: `add` and `withdraw` return another.

    Attributes:
        model: the name of the model that it was begun for.
        text_encoder_sha256: the mark of that model's text encoders: it is for no others.
        options: the method and all its options, as in the record of an edit.
        synonyms: `erase` or `leave`, as `erase` takes it.
        preserve: prompts that must stay as they are, sorted.
        entries: sorted by concept.

    Raises:
        EditkitError: entries contradict each other or `preserve`.

    >>> ledger = Ledger.begin("emoji", method="uce", protect="none")
    >>> ledger = ledger.add(LedgerEntry("dog", "cat")).add(LedgerEntry("church", "house", who="a diocese"))
    >>> [entry.concept for entry in ledger.entries]
    ['church', 'dog']
    >>> edit = ledger.solve()
    >>> edit.record["concepts"], ledger.verify(edit).same
    (['church', 'dog'], True)
    >>> ledger.withdraw("dog").verify(edit).differences
    ('it erases dog, which is not in the ledger',)
    """

    model: str
    text_encoder_sha256: str
    options: Mapping[str, Any]
    synonyms: str = "erase"
    preserve: tuple[str, ...] = ()
    entries: tuple[LedgerEntry, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "preserve", tuple(sorted({*self.preserve})))
        object.__setattr__(self, "entries", tuple(sorted(self.entries, key=lambda entry: entry.key)))
        check_entries(self.entries, self.preserve)

    @classmethod
    def begin(
        cls,
        model: ModelLike = None,
        preserve: Sequence[str] = (),
        synonyms: str | None = None,
        method: str | None = None,
        **options: Any,
    ) -> Ledger:
        """A ledger without entries.

        Args:
            model: as `open_model` takes it, or what it returns.
            preserve: prompts that must stay as they are.
            synonyms: as `erase` takes it.
            method: a closed-form method; default: that of `Options()`.
            options: of the method.

        Raises:
            EditkitError: there is no such model, method or option.
        """
        from editkit.edits.method import Options
        from editkit.erasure.synonyms import how_of
        from editkit.model.editable import open_model

        made = Options(**({} if method is None else {"method": method}), **options)
        opened, how = open_model(model), how_of(synonyms, made.is_protected)
        return cls(opened.source.name, opened.text_encoder_sha256, made.record, how, tuple(preserve))

    @classmethod
    def read(cls, path: Path | str) -> Ledger:
        """The ledger in a file.

        Args:
            path: what `write` wrote, changed by hand or merged as you like.

        Raises:
            EditkitError: it is no ledger, or contradicts itself; naming the line where there is one.
        """
        header, entries = read_ledger(Path(path))
        try:
            return cls(**header, entries=tuple(entries))
        except EditkitError as error:
            raise EditkitError(f"{path}: {error}") from error

    def write(self, path: Path | str, force: bool = False) -> None:
        """Write it to a file, whole or not at all.

        Args:
            path: a text file, JSON lines.
            force: replace what is there.

        Raises:
            EditkitError: `path` is there already, or cannot be written.
        """
        write_text_atomic(Path(path), ledger_text(self.header, self.entries), force)

    def add(self, entry: LedgerEntry, force: bool = False) -> Ledger:
        """The ledger with one more concept.

        Args:
            entry: what is erased.
            force: replace the entry of the same concept, if there is one.

        Raises:
            EditkitError: the concept is in it already, is erased with another or to be preserved, or closes a cycle of
                guides.
        """
        others = [known for known in self.entries if not (force and known.key == entry.key)]
        return replace(self, entries=(*others, entry))

    def withdraw(self, concept: str) -> Ledger:
        """The ledger as if `concept` had never been in it.

        Args:
            concept: of an entry.

        Raises:
            EditkitError: there is no such entry; naming near ones.
        """
        left = tuple(entry for entry in self.entries if entry.key != plain(concept))
        if len(left) < len(self.entries):
            return replace(self, entries=left)
        owner = owners_of(self._words)(concept)
        if owner is not None:
            raise EditkitError(
                f"concept {concept!r}: is a synonym in the entry {owner!r}; withdraw that, or add it again without the "
                "synonym and with --force"
            )
        near = get_close_matches(plain(concept), [entry.key for entry in self.entries], 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`editkit ledger show` lists what is"
        raise EditkitError(f"concept {concept!r}: is not in the ledger; {hint}")

    def solve(self, model: ModelLike = None, checked: bool = True) -> Edit:
        """The edit that erases all concepts together: one solve, the same bit for bit whatever came and went before.

        Args:
            model: as `open_model` takes it; default: the model that the ledger was begun for.
            checked: refuse an edit that blows up; else warn of it.

        Raises:
            EditkitError: no entry, another text encoder, or an impossible request.
        """
        from editkit.erasure.ledger.solve import solve_entries

        if not self.entries:
            raise EditkitError("the ledger has no entry, so there is nothing to erase; add a concept")
        opened = self._opened(model)
        made = solve_entries(opened, self.entries, self.preserve, self._method(), self.synonyms, checked)
        return replace(made, record={**made.record, "ledger": {"sha256": self.sha256, **made.record["ledger"]}})

    def verify(self, edit: Edit, model: ModelLike = None, within: float = WITHIN) -> Verdict:
        """Whether an edit is what this ledger gives. Solves it again, unless the edit's record says enough.

        Args:
            edit: what `solve` made, perhaps read from a file.
            model: as for `solve`.
            within: how far apart the maps may be, in shares of the change.

        Raises:
            EditkitError: as `solve`.
        """
        concepts = [entry.concept for entry in self.entries]
        stated = {"concepts": concepts, "preserve": self.preserve, "options": self.options}
        told = differences(edit.record, stated | {"text_encoder_sha256": self.text_encoder_sha256})
        if told:
            return Verdict(told)
        return Verdict.of(edit, self.solve(model, bool(edit.record.get("checked", True))), within)

    @property
    def header(self) -> dict[str, Any]:
        """What holds for all concepts."""
        header = {"model": self.model, "text_encoder_sha256": self.text_encoder_sha256, "options": dict(self.options)}
        return {**header, "synonyms": self.synonyms, "preserve": list(self.preserve)}

    @property
    def sha256(self) -> str:
        """Of all that an edit depends on: not of who, why and when."""
        bare = [replace(entry, **dict.fromkeys(NOTES, "")) for entry in self.entries]
        header = {key: value for key, value in self.header.items() if key != "model"}
        return hashlib.sha256(ledger_text(header, bare).encode()).hexdigest()

    @property
    def resolved(self) -> dict[str, str | None]:
        """Concept → what it becomes in place of its guide, since that is erased, too, as far as the ledger alone tells;
        None: the default of its method. `solve` knows the model's synonyms besides, and records what it did."""
        followed = follow_guides(self.entries, owners_of(self._words))
        return {
            entry.concept: followed[entry.concept] for entry in self.entries if followed[entry.concept] != entry.guide
        }

    @property
    def _words(self) -> dict[str, tuple[str, ...]]:
        return {entry.concept: entry.words for entry in self.entries}

    def _opened(self, model: ModelLike) -> EditableModel:
        from editkit.model.editable import open_model

        opened = open_model(self.model if model is None else model)
        if opened.text_encoder_sha256 != self.text_encoder_sha256:
            raise EditkitError(
                f"model {opened.source.name}: has another text encoder than {self.model}, for which the ledger was "
                "begun; name that model with --model, or begin a ledger for this one"
            )
        return opened.fresh()

    def _method(self) -> Method:
        from editkit.edits.method import Options

        try:
            return Options(**self.options)
        except EditkitError as error:
            raise EditkitError(f"options of the ledger: {error}") from error
