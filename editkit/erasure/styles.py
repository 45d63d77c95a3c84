"""How a thing is drawn is no thing: a style is erased in sentences about styles and becomes another; the rest stay.

"a noto" is nothing that anybody asks for, a mean of things is no style, and a sentence that is protected with a style's
name in it holds that style where it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from editkit.concepts.profile import Profile
from editkit.edits.protect import ProtectedWords
from editkit.erasure.rows import Encoders, vocabulary_rows


def other_styles(profile: Profile, concepts: Sequence[str]) -> list[str]:
    """The styles that stay while `concepts` go; none where no style goes.

    >>> from editkit.emoji.profile import PROFILE
    >>> other_styles(PROFILE, ["noto"]), other_styles(PROFILE, ["church"])
    (['twemoji', 'fluent'], [])
    """
    if not any(profile.is_style(concept) for concept in concepts):
        return []
    erased = {concept.strip().lower() for concept in concepts}
    return [style for style in profile.styles if style.lower() not in erased]


def protected_rows(
    profile: Profile, encoders: Encoders, words: Sequence[str], concepts: Sequence[str]
) -> ProtectedWords:
    """Rows of what stays while `concepts` go: `words`, and the other styles where one goes, each in its sentences."""
    others = other_styles(profile, concepts)
    return vocabulary_rows(
        encoders, [*words, *others], lambda word: sentences_without(profile.sentences_for(word), concepts, others)
    )


def sentences_without(templates: Sequence[str], concepts: Sequence[str], others: Sequence[str] = ()) -> list[str]:
    """`templates` that name none of `concepts`: one that does gets the first of `others` in its place, or is left out.

    >>> sentences_without(["a {}", "a {} in the style of noto"], ["noto"], ["fluent"])
    ['a {}', 'a {} in the style of fluent']
    >>> sentences_without(["a {} in the style of noto"], ["noto"])
    ['{}']
    """
    kept: list[str] = []
    for template in templates:
        for concept in concepts:
            name = rf"(?<![\w-]){re.escape(concept.strip())}(?![\w-])"
            if not re.search(name, template, re.IGNORECASE):
                continue
            template = re.sub(name, others[0], template, flags=re.IGNORECASE) if others else ""
        kept += [template] if template else []
    return list(dict.fromkeys(kept)) or ["{}"]
