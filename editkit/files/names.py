"""Names of files that are made of what a user typed."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from hashlib import sha256

MOST_TEXTS = 3
MOST_BYTES = 60
"""Of a name without its ending. File systems allow 255 and count bytes: a Chinese character has three."""


def file_stem(texts: Sequence[str]) -> str:
    """A file name, without ending, of the first three texts: letters and digits of any script, in lower case.

    A sign that is no letter gives its Unicode name where a text has nothing else. Where no name is left, or the name is
    cut, a few digits of a hash keep two of them apart.

    >>> file_stem(["Hot Dog", "教会"]), file_stem(["🔫"]), file_stem([])
    ('hot-dog-教会', 'pistol', 'edit')
    """
    words = [word for word in map(_word, texts[:MOST_TEXTS]) if word]
    if not words:
        return f"edit-{_hash(texts)}" if any(text.strip() for text in texts) else "edit"
    stem = "-".join(words)
    if len(stem.encode()) <= MOST_BYTES:
        return stem
    return f"{_cut(stem, MOST_BYTES - 7)}-{_hash(texts)}"


def _word(text: str) -> str:
    text = unicodedata.normalize("NFC", text).lower()
    kept = [letter if _is_kept(letter) else "" if _is_joiner(letter) else " " for letter in text]
    if not any(letter.strip() for letter in kept):
        kept = [f" {_sign_name(letter)} " for letter in text if unicodedata.category(letter)[0] == "S"]
    return "-".join(unicodedata.normalize("NFC", "".join(kept)).split())


def _is_kept(letter: str) -> bool:
    """Letters, digits, and marks that belong to letters (vowels of Hindi, accents)."""
    return letter.isalnum() or (unicodedata.category(letter)[0] == "M" and not _is_joiner(letter))


def _is_joiner(letter: str) -> bool:
    """What has no look of its own: joiners, selectors of a sign's colour, marks of direction."""
    return unicodedata.category(letter) == "Cf" or "\ufe00" <= letter <= "\ufe0f"


def _sign_name(letter: str) -> str:
    name = unicodedata.name(letter, "").lower()
    return "".join(letter if letter.isalnum() else " " for letter in name)


def _cut(stem: str, most: int) -> str:
    """No more than `most` bytes, not within a character nor before its marks."""
    whole = stem.encode()[:most].decode(errors="ignore")
    while len(whole) > 1 and unicodedata.category(stem[len(whole)])[0] == "M":
        whole = whole[:-1]
    return whole.strip("-")


def _hash(texts: Sequence[str]) -> str:
    return sha256(
        "\0".join(unicodedata.normalize("NFC", text) for text in texts).encode(errors="surrogatepass")
    ).hexdigest()[:6]
