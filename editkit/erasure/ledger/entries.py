"""The entries of a ledger, and what they must not be to each other: twice the same, or a cycle of guides."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from editkit.concepts.templates import VOCABULARY_GUIDES
from editkit.errors import EditkitError

NOTES = ("who", "why", "when")
"""Fields that are the user's own: they change no edit."""
LISTS = ("synonyms", "found")


@dataclass(frozen=True)
class LedgerEntry:
    """One concept that a ledger erases.

    Attributes:
        concept: a word or phrase.
        guide: what it becomes, as `erase` takes it; None: the default of the ledger's method.
        synonyms: more words that are erased with it.
        found: prompts that brought it back, as `harden` finds them: erased with it, in all their rows.
        who: asked for it.
        why: for example the number of a ticket.
        when: a date, or whatever text.

    Raises:
        EditkitError: a field has a wrong type, or is empty where it must not be.

    >>> LedgerEntry("church", "house", who="a diocese").as_dict()
    {'concept': 'church', 'guide': 'house', 'who': 'a diocese'}
    """

    concept: str
    guide: str | None = None
    synonyms: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    who: str = ""
    why: str = ""
    when: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in LISTS:
                object.__setattr__(self, field.name, _texts(field.name, value))
            elif not (isinstance(value, str) or (value is None and field.name == "guide")):
                raise EditkitError(f"{field.name}: expected a text, got {value!r}")
        said = "".join(text for value in self.as_dict().values() for text in value)
        if said != said.encode(errors="replace").decode():
            raise EditkitError(f"concept {self.concept!r}: expected text that UTF-8 can hold; type it again")
        object.__setattr__(self, "concept", " ".join(self.concept.split()))
        if not self.concept:
            raise EditkitError("concept: expected a word or phrase, got none")
        own = {plain(word) for word in self.words}
        if self.guide is not None and plain(self.guide) in own:
            raise EditkitError(f"concept {self.concept!r} becomes {self.guide!r}, itself; give it another guide")

    @property
    def key(self) -> str:
        """What entries are sorted and found by."""
        return plain(self.concept)

    @property
    def words(self) -> tuple[str, ...]:
        """The concept, and what is erased with it."""
        return (self.concept, *self.synonyms)

    def as_dict(self) -> dict[str, Any]:
        """What it says, without what it leaves out."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if name in LISTS else value for name, value in said.items() if value not in (None, "", ())
        }


def plain(text: str) -> str:
    """A text as far as it matters to a ledger: without case, an article, or more space than it needs.

    >>> plain("The  Church"), plain("a")
    ('church', 'a')
    """
    text = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return re.sub(r"^(a|an|the) ", "", text)


def check_entries(entries: Sequence[LedgerEntry], preserve: Sequence[str]) -> None:
    """Refuse entries that contradict each other or what is preserved.

    Raises:
        EditkitError: a word is erased twice, erased and preserved, or guides run in a cycle.
    """
    owners: dict[str, tuple[str, str]] = {}
    for entry in entries:
        for word in entry.words:
            if plain(word) in owners:
                raise _twice(entry, word, *owners[plain(word)])
            owners[plain(word)] = (entry.concept, word)
    for prompt in preserve:
        if plain(prompt) in owners:
            concept = owners[plain(prompt)][0]
            raise EditkitError(
                f"{prompt!r} is to be preserved, and erased with {concept!r}; withdraw that, or take it out of "
                "`preserve` on the first line"
            )
    follow_guides(entries, owners_of({entry.concept: entry.words for entry in entries}))


def owners_of(words: Mapping[str, Sequence[str]]) -> Callable[[str], str | None]:
    """Which concept a text is erased with, given the words of each; None: it stays. The concepts themselves count
    before words that are erased with others."""
    owners = {plain(word): concept for concept, some in words.items() for word in some}
    owners |= {plain(concept): concept for concept in words}
    return lambda text: owners.get(plain(text))


def follow_guides(entries: Sequence[LedgerEntry], owner: Callable[[str], str | None]) -> dict[str, str | None]:
    """Concept → the guide at the end of its chain: where a guide is erased with another concept, that one's guide
    takes its place, and so on. `W M c = W c*` would draw an erased guide as it was before.

    Raises:
        EditkitError: the chain is a cycle.
    """
    guides = {entry.concept: entry.guide for entry in entries}
    return {concept: _followed(concept, guides, owner) for concept in guides}


def _followed(concept: str, guides: Mapping[str, str | None], owner: Callable[[str], str | None]) -> str | None:
    path = [concept]
    while (guide := guides[path[-1]]) is not None and guide not in VOCABULARY_GUIDES:
        following = owner(guide)
        if following in (None, path[-1]):
            break
        if following in path:
            cycle = [*path[path.index(following) :], following]
            raise EditkitError(
                f"the guides {' → '.join(cycle)} are a cycle, and all are erased: nothing is left to become; give one "
                "of them another guide"
            )
        path.append(following)
    return guide


def _twice(entry: LedgerEntry, word: str, concept: str, other: str) -> EditkitError:
    own = (word == entry.concept, other == concept)
    if all(own):
        return EditkitError(f"concept {word!r} is in the ledger already; withdraw it first, or replace it with --force")
    if any(own):
        where = f"in the entry {(concept if own[0] else entry.concept)!r}, and an entry of its own"
    else:
        where = f"in the entries {concept!r} and {entry.concept!r}"
    return EditkitError(f"{word!r} is a synonym {where}; take one of the two out")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """Each once, and sorted, so that entries that say the same are the same."""
    if isinstance(value, str) or not all(isinstance(text, str) and text.strip() for text in value):
        raise EditkitError(f"{name}: expected a list of texts, got {value!r}")
    return tuple(sorted({*value}, key=lambda text: (plain(text), text)))
