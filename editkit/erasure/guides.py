"""What a concept becomes: a text, or something made from words that stay. A thing becomes a thing, a style a style."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from editkit.concepts.templates import EXPANSIONS, VOCABULARY_GUIDES
from editkit.edits.method import Method
from editkit.erasure.in_class import InClass
from editkit.erasure.near import closeness, nearest_words
from editkit.erasure.rows import average_of, safe_words
from editkit.erasure.styles import other_styles
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel


@dataclass(frozen=True)
class Ways:
    """The sentences in which concepts are erased, and the words that guides are made from.

    Attributes:
        things, styles: of concepts that are things, and of those that are styles.
    """

    model: EditableModel
    things: InClass
    styles: InClass

    @classmethod
    def of(cls, model: EditableModel, concepts: Sequence[str], words: Sequence[str], options: Method) -> Ways:
        """Unprotected, the sentences are those of `--expand`, as published, and a style has no words of its own."""
        profile, others = model.profile, other_styles(model.profile, concepts)
        if not options.is_protected:
            way = InClass(model, words, EXPANSIONS[options.expand], options)
            return cls(model, way, way)
        styles = InClass(model, others or words, profile.style_templates, options)
        return cls(model, InClass(model, words, profile.templates, options), styles)

    def templates(self, concept: str) -> Sequence[str]:
        """The sentences in which it is erased."""
        return self._way(concept).templates

    def guides(self, concepts: Sequence[str], guides: Sequence[str]) -> list[str | Sequence[str]]:
        """What each concept becomes, in words: one text, several whose mean is meant, or a `Span`.

        Raises:
            EditkitError: a concept is its own guide, or no word is left to make a guide from.
        """
        pairs = list(zip(concepts, guides, strict=True))
        for concept, guide in pairs:
            if guide.strip().lower() == concept.strip().lower():
                raise EditkitError(
                    f"concept {concept!r} is its own guide: the edit would do nothing; give another --guide"
                )
            meant = get_close_matches(guide, VOCABULARY_GUIDES, n=1, cutoff=0.85)
            if meant and guide not in VOCABULARY_GUIDES:
                warnings.warn(f"guide {guide!r} is taken as a text; did you mean {meant[0]}?", stacklevel=2)
            if guide in VOCABULARY_GUIDES and not self._way(concept).words:
                raise EditkitError(
                    f"guide {guide!r} needs a vocabulary, but no word is left in it; give --vocabulary or a text"
                )
        chosen: dict[str, str] = {}
        for kind in (self.things, self.styles):  # each kind is chosen together
            mine = [
                (concept, guide) for concept, guide in pairs if self._way(concept) is kind and concept not in chosen
            ]
            near = [concept for concept, guide in mine if guide == "in-class"]
            chosen |= dict(zip(near, kind.choose(near), strict=True))
            near = [concept for concept, guide in mine if guide == "nearest"]
            if near:
                nearest = nearest_words(self.model.encoder, near, kind.words, self.model.gram)
                chosen |= dict(zip(near, nearest, strict=True))
        return [chosen[concept] if concept in chosen else self._text(concept, guide) for concept, guide in pairs]

    def _text(self, concept: str, guide: str) -> str | Sequence[str]:
        words = self._way(concept).words
        if guide == "average":
            return average_of(words)
        if guide == "safe":
            return safe_words(words)
        return guide

    def _way(self, concept: str) -> InClass:
        return self.styles if self.model.profile.is_style(concept) else self.things


def usual_guides(model: EditableModel, concepts: Sequence[str], options: Method) -> list[str]:
    """What each concept becomes where the user says nothing; one for all, or one for each.

    In a protected edit a style becomes the other style that is least like it: a near one is drawn so much alike that
    the erased one still shows, and the mean of several may look like any.
    """
    others = other_styles(model.profile, concepts) if options.is_protected else []
    styles = [concept for concept in concepts if others and model.profile.is_style(concept)]
    if not styles:
        return [options.guide]
    known = [*others, *model.own_words()]  # less their mean, which is what all prompts have in common
    near = closeness(model.encoder, known, styles, model.gram)[: len(others)]
    far = {style: others[int(near[:, n].argmin())] for n, style in enumerate(styles)}
    return [far.get(concept, options.guide) for concept in concepts]
