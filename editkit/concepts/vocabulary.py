"""The words that an edit must not hurt, and the rule that keeps synonyms of the erased concept out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.files.text.table import Schema, open_table

WORDS = Schema(
    thing="word",
    columns={
        "word": (
            "word", "words", "concept", "concepts", "name", "names", "term", "terms", "phrase", "phrases", "prompt",
            "prompts", "text", "texts", "caption", "captions", "class", "label", "artist", "object", "style",
        )
    },
    main="word",
    ranked=False,
    options=False,
    comments=True,
)  # fmt: skip
"""How a table may head its column of words."""

SYNONYM_LIKENESS = 0.5
"""`editkit.erasure.near.likeness` above which a word counts as a synonym of the erased concept and is not
protected: nearer to it than to the middle of the way from its neighbours.

On the bundled model that finds 22 of its 26 pairs of synonyms and 10 other pairs of 34,000, where a cosine above 0.7
finds the same 22 and 106 others. On MiniLM, whose words mean what they mean in English, it finds gun: firearm, pistol;
car: automobile; woman: women; dog: animal; and nothing for church, pizza or axe."""

FEW = 50
"""A list of fewer words has no neighbourhoods to compare with: it is protected but for what is known to mean the same.
"""


@cache
def common_words() -> tuple[str, ...]:
    """About 3,000 common English words: the vocabulary of models that bring none."""
    lines = (files("editkit.concepts") / "common_words.txt").read_text(encoding="utf-8").splitlines()
    return tuple(dict.fromkeys(line for line in map(str.strip, lines) if line and not line.startswith("#")))


def read_word_file(path: Path) -> list[str]:
    """The words or phrases of a file, each once.

    Plain text: one a line; blank lines and lines that start with `#` are skipped. A table (.csv, .tsv): the only
    column, or the one that is headed as `WORDS` says. JSON: a list of texts, or of objects with such a key.

    Raises:
        EditkitError: the file cannot be read, holds no word, or nothing says which column the words are.
    """
    words = []
    with open_table(path, WORDS) as table:
        for row in table.rows:
            if row.fault or not row.cells["word"]:
                raise EditkitError(f"{path}, line {row.lines[0]}: {row.fault or 'the word is empty'}; mend it")
            words.append(row.cells["word"])
    if not words:
        raise EditkitError(f"{path}: expected one word or phrase a line, found none; add some")
    return list(dict.fromkeys(words))


def single_words(texts: Iterable[str]) -> list[str]:
    """Their words in lower case; "jack-o-lantern" has three."""
    return [word for text in texts for word in text.lower().replace("-", " ").split()]


def same_word(word: str, concept: str) -> bool:
    """Whether `word` is the concept, up to case and plural. "hot dog" is not a dog."""
    mine, theirs = (text.lower().split() for text in (word, concept))
    return len(mine) == len(theirs) and all(_stems(a) & _stems(b) for a, b in zip(mine, theirs, strict=True))


class SameWords:
    """Finds which of many concepts a word is, without comparing it with each.

    >>> SameWords(["box", "hot dog", "Boxes"]).of("boxes")
    ['box', 'Boxes']
    """

    def __init__(self, concepts: Iterable[str]) -> None:
        self._by_stem: dict[str, dict[str, None]] = {}
        for concept in concepts:
            for stem in _first_stems(concept):
                self._by_stem.setdefault(stem, {})[concept] = None

    def of(self, word: str) -> list[str]:
        """The concepts for which `same_word` holds."""
        begun = dict.fromkeys(other for stem in sorted(_first_stems(word)) for other in self._by_stem.get(stem, ()))
        return [other for other in begun if same_word(word, other)]


def _first_stems(text: str) -> set[str]:
    words = text.lower().split()
    return _stems(words[0]) if words else {""}


def without_synonyms(
    words: Sequence[str], concepts: Iterable[str], also: Iterable[str], likeness: Tensor | None
) -> list[str]:
    """`words` less those that mean an erased concept.

    Left out are: words for which `same_word` holds; the words in `also` (synonyms and guides that are known by name);
    words whose `likeness` `(words, concepts)` to one is above `SYNONYM_LIKENESS`.
    """
    meant = SameWords([*concepts, *also])
    near = torch.zeros(len(words), dtype=torch.bool)
    if likeness is not None and likeness.numel():
        near = likeness.max(dim=1).values > SYNONYM_LIKENESS
    return [word for word, close in zip(words, near.tolist(), strict=True) if not close and not meant.of(word)]


def _stems(word: str) -> set[str]:
    """`word` and what it may be the plural of: "boxes" → box, boxe; "cookies" → cookie, cooky."""
    stems = {word}
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        stems.add(word[:-1])
        if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            stems.add(word[:-2])
        if word.endswith("ies"):
            stems.add(word[:-3] + "y")
    return stems
