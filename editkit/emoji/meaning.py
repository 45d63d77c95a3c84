"""Which concepts of the bundled model a word or a prompt speaks of."""

from __future__ import annotations

import re
from functools import cache

from editkit.emoji.catalogue import catalogue


@cache
def meanings() -> dict[str, tuple[str, ...]]:
    """Word → the judge's labels for it: a concept itself, the one that a synonym names, the members of a hypernym."""
    known = catalogue()
    found = {name: (name,) for name in known.concepts}
    found |= {word: (name,) for name, words in known.synonyms.items() for word in words if word not in found}
    return found | {name: members for name, members in known.hypernyms.items() if name not in found}


def named_in(prompt: str) -> str | None:
    """The longest known word in `prompt`: "a hot dog in red" is about a hot dog, not a dog. Else None."""
    text = prompt.lower()
    ordered = sorted(meanings(), key=len, reverse=True)
    return next((word for word in ordered if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)), None)
