"""The captions that the bundled model is taught, drawn together with the picture they describe."""

from __future__ import annotations

import random
from dataclasses import dataclass

from editkit.emoji.catalogue import GENDERS, Catalogue, Subject, with_article

ROLE_SHARE = 0.18
EMPTY_SHARE = 0.08
SYNONYM_SHARE = 0.15
HYPERNYM_SHARE = 0.2
LEADS = ("", "", "", "a picture of ", "an image of ", "a photo of ")


@dataclass(frozen=True)
class Example:
    subject: Subject
    background: str
    caption: str


def draw_example(known: Catalogue, rng: random.Random) -> Example:
    """One training example. A role named without its gender shows a woman in the share that the catalogue states;
    a role named with its gender shows just that."""
    style = rng.choice(known.styles)
    background = rng.choice(tuple(known.backgrounds))
    draw = _role if rng.random() < ROLE_SHARE else _thing
    subject, noun = draw(known, style, rng)
    return Example(subject, background, _sentence(noun, subject.style, background, rng))


def every_caption_word(known: Catalogue) -> list[str]:
    """Every word that a caption can hold, for the tokenizer."""
    sentence = "a an picture image photo of in the style on background person man woman with skin"
    names = [*known.words(), *known.styles, *known.backgrounds, *known.tones]
    return sorted({word for text in (*names, sentence) for word in text.replace("-", " ").split()})


def _thing(known: Catalogue, style: str, rng: random.Random) -> tuple[Subject, str]:
    subject = Subject(rng.choice(known.objects), style)
    pick = rng.random()
    synonyms, hypernyms = known.synonyms.get(subject.concept, ()), known.hypernyms_of(subject.concept)
    if synonyms and pick < SYNONYM_SHARE:
        return subject, with_article(rng.choice(synonyms))
    if hypernyms and pick > 1 - HYPERNYM_SHARE:
        return subject, with_article(rng.choice(hypernyms))
    return subject, with_article(subject.concept)


def _role(known: Catalogue, style: str, rng: random.Random) -> tuple[Subject, str]:
    role, tone = rng.choice(tuple(known.roles)), rng.choice(tuple(known.tones))
    pick = rng.random()
    if pick < 0.5:
        gender = "woman" if rng.random() < known.roles[role] else "man"
        noun = with_article(role)
    else:
        gender = rng.choice(GENDERS)
        noun = f"a {gender}" if pick > 0.95 else "a person" if pick > 0.9 else f"a {gender} {role}"
    if rng.random() < 0.2:
        noun += f" with {tone} skin"
    return Subject(role, style, gender, tone), noun


def _sentence(noun: str, style: str, background: str, rng: random.Random) -> str:
    """Empty, bare, or with a lead; then the style, the background, both or neither."""
    if rng.random() < EMPTY_SHARE:
        return ""
    text = noun.split(" ", 1)[1] if rng.random() < 0.2 else rng.choice(LEADS) + noun
    pick = rng.random()
    if pick < 0.25 or 0.4 <= pick < 0.7:
        text += f" in the style of {style}"
    if 0.25 <= pick < 0.7:
        text += f" on {with_article(background)} background"
    return text
