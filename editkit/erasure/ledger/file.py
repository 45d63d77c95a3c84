"""A ledger as a text file for version control: JSON lines, what holds for all concepts first, then one line a concept.

    {"editkit_ledger": 1, "model": ..., "text_encoder_sha256": ..., "options": {...}, "synonyms": ..., "preserve": []}
    {"concept": "church", "guide": "house", "who": "a diocese", "when": "2026-11-29"}

Entries are sorted by concept, so that a change of one is a change of one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from editkit.erasure.ledger.entries import LISTS, LedgerEntry
from editkit.errors import EditkitError, did_you_mean
from editkit.files.text.decoding import open_text

VERSION_KEY = "editkit_ledger"
VERSION = 1
HEADER = ("model", "text_encoder_sha256", "options", "synonyms", "preserve")
ENTRY = tuple(field.name for field in fields(LedgerEntry))
CONFLICT = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")
"""What version control leaves where two changes meet."""


def ledger_text(header: Mapping[str, Any], entries: Iterable[LedgerEntry]) -> str:
    """What the file says."""
    lines = [{VERSION_KEY: VERSION, **header}, *(entry.as_dict() for entry in entries)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read_ledger(path: Path) -> tuple[dict[str, Any], list[LedgerEntry]]:
    """The header and the entries of a ledger.

    Raises:
        EditkitError: naming the file and the line: it is no ledger, a newer one, or a line is not what it should be.
    """
    if not path.exists():
        raise EditkitError(f"{path}: no such ledger; begin one with `editkit ledger add {path} --concept ...`")
    with open_text(path) as lines:
        objects = [(n, _object(path, n, line)) for n, line in enumerate(lines, 1) if line.strip()]
    if not objects or VERSION_KEY not in objects[0][1]:
        raise EditkitError(f"{path}: expected a ledger, but its first line has no {VERSION_KEY!r}; give another file")
    header = _header(_Line(path, *objects[0]))
    entries, lines_of = [], {}
    for n, raw in objects[1:]:
        entry = _entry(_Line(path, n, raw))
        first = lines_of.setdefault(entry.key, n)
        if first != n:
            raise EditkitError(f"{path}, line {n}: concept {entry.concept!r} is on line {first}, too; keep one of them")
        entries.append(entry)
    return header, entries


class _Line:
    """Checks one object; every error names the file, the line and the key."""

    def __init__(self, path: Path, n: int, raw: Mapping[str, Any]) -> None:
        self.path, self.n, self.raw = path, n, raw

    def known(self, names: Sequence[str], required: Sequence[str]) -> None:
        for name in self.raw:
            if name not in names:
                raise self.wrong(f"no such key {name!r}; {did_you_mean(name, names)}known are {', '.join(names)}")
        for name in required:
            if name not in self.raw:
                raise self.wrong(f"expected {name!r}, which is not there; add it")

    def kind(self, name: str, kind: type, what: str) -> Any:
        if not isinstance(self.raw[name], kind):
            raise self.wrong(f"{name}: expected {what}, got {self.raw[name]!r}; mend it")
        return self.raw[name]

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.raw.get(name, [])
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.wrong(f"{name}: expected a list of texts, got {value!r}; mend it")
        return tuple(value)

    def wrong(self, what: str) -> EditkitError:
        return EditkitError(f"{self.path}, line {self.n}: {what}")


def _header(line: _Line) -> dict[str, Any]:
    version = line.raw[VERSION_KEY]
    if version != VERSION:
        raise line.wrong(f"a ledger of version {version!r}, expected {VERSION}; update editkit")
    line.known((VERSION_KEY, *HEADER), HEADER)
    options = line.kind("options", dict, "an object")
    if not isinstance(options.get("method"), str):
        raise line.wrong(f"options: expected a method, got {options.get('method')!r}; name one of `editkit methods`")
    if line.raw["synonyms"] not in ("erase", "leave"):
        raise line.wrong(f"synonyms: expected erase or leave, got {line.raw['synonyms']!r}; mend it")
    texts = {name: line.kind(name, str, "a text") for name in ("model", "text_encoder_sha256")}
    return {**texts, "options": options, "synonyms": line.raw["synonyms"], "preserve": line.texts("preserve")}


def _entry(line: _Line) -> LedgerEntry:
    line.known(ENTRY, ("concept",))
    lists = {name: line.texts(name) for name in LISTS}
    try:
        return LedgerEntry(**{**line.raw, **lists})
    except EditkitError as error:
        raise line.wrong(str(error)) from error


def _object(path: Path, n: int, line: str) -> dict[str, Any]:
    if line.startswith(CONFLICT):
        raise EditkitError(f"{path}, line {n}: a mark of a merge conflict; keep the entries of both sides, and no mark")
    try:
        raw = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise EditkitError(f"{path}, line {n}: expected one JSON object ({reason}); mend the line") from error
    if not isinstance(raw, dict):
        raise EditkitError(f"{path}, line {n}: expected one JSON object, got {line.strip()[:40]!r}; mend the line")
    return raw


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the key {name!r} is there twice")
    return dict(pairs)
