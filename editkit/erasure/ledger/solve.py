"""The entries of a ledger to one edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from editkit.edits.edit import Edit
from editkit.edits.method import Method
from editkit.erasure.erase import erase
from editkit.erasure.ledger.entries import LedgerEntry, follow_guides, owners_of, plain
from editkit.erasure.synonyms import synonyms_of
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel


def solve_entries(
    model: EditableModel,
    entries: Sequence[LedgerEntry],
    preserve: Sequence[str],
    options: Method,
    synonyms: str,
    checked: bool,
) -> Edit:
    """`erase` of all entries at once. Its record says under `ledger` which guides were followed to another one's.

    Args:
        model: no prompt of which was encoded yet, or its last bits are those of what came before.
        entries: in the order that the edit is to have.
        preserve, options, checked: as for `erase`.
        synonyms: `erase` or `leave`.
    """
    same = _same(model, entries, preserve, synonyms == "erase")
    followed = follow_guides(entries, owners_of(same))
    guides = {concept: options.guide if guide is None else guide for concept, guide in followed.items()}
    found = {entry.concept: entry.found for entry in entries if entry.found}
    made = erase(
        model, list(guides), list(guides.values()), preserve, options, None, checked, "leave", same, found or None
    )
    resolved = {entry.concept: guides[entry.concept] for entry in entries if followed[entry.concept] != entry.guide}
    return replace(made, record={**made.record, "ledger": {"resolved": resolved}})


def _same(
    model: EditableModel, entries: Sequence[LedgerEntry], preserve: Sequence[str], measured: bool
) -> Mapping[str, Sequence[str]]:
    """Concept → the words erased with it: those of its entry, and what is known or measured to mean the same.

    Of two targets for one word none would be met: it goes with the entry that names it, else with the first.
    """
    said = {entry.concept: entry.synonyms for entry in entries}
    same = synonyms_of(model, list(said), said, None, measured)
    owners = {plain(word): entry.concept for entry in entries for word in entry.words}
    for concept, words in same.items():
        for word in words:
            owners.setdefault(plain(word), concept)
    for prompt in preserve:
        if plain(prompt) in owners:
            raise EditkitError(
                f"{prompt!r} is to be preserved, and means the same as {owners[plain(prompt)]!r} to the model; take it "
                'out of `preserve` on the first line of the ledger, or write "leave" for `synonyms` there'
            )
    return {concept: [word for word in words if owners[plain(word)] == concept] for concept, words in same.items()}
