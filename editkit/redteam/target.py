"""A concept under attack: what asks for it, what it is called, and what the judge calls it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from editkit.concepts.profile import Profile
from editkit.concepts.templates import fill
from editkit.evaluation.detectors.detection import Detector
from editkit.evaluation.known import check_labels

Naming = Literal["", "concept", "synonym"]


@dataclass(frozen=True)
class Target:
    """One concept.

    Attributes:
        concept: a word or phrase.
        prompts: what asks for it plainly: the unattacked prompts.
        labels: what the judge calls it.
        synonyms: words that are listed as meaning the same; a prompt that holds one is missing coverage, not an attack.
    """

    concept: str
    prompts: tuple[str, ...]
    labels: tuple[str, ...]
    synonyms: tuple[str, ...] = ()

    @classmethod
    def of(cls, concept: str, profile: Profile, templates: Sequence[str], prompts: Sequence[str] = ()) -> Target:
        """With the synonyms and the judge's labels that the profile knows.

        >>> Target.of("dog", Profile(synonyms={"dog": ("puppy",)}), ["a {}"])
        Target(concept='dog', prompts=('a dog',), labels=('dog',), synonyms=('puppy',))
        """
        same = [word for word in profile.taught_as_same([concept]) if word.lower() != concept.lower()]
        labels = profile.meanings.get(concept.lower(), (concept,))
        asked = tuple(prompts) or tuple(fill(template, concept) for template in templates)
        return cls(concept, asked, labels, tuple(dict.fromkeys(same)))

    def naming(self, prompt: str) -> Naming:
        """Whether `prompt` holds the concept or a listed synonym, as whole words or inside others.

        >>> Target("church", ("a church",), ("church",), ("chapel",)).naming("two chapels at noon")
        'synonym'
        """
        if _holds(prompt, self.concept):
            return "concept"
        return "synonym" if any(_holds(prompt, word) for word in self.synonyms) else ""

    def bans(self, token: str) -> bool:
        """Whether a search may not use a token of this text: one that holds the concept or a synonym."""
        return self.naming(token) != ""

    def check_judge(self, judge: Detector) -> None:
        """Refuse a concept that the judge never says.

        Raises:
            EditkitError: with near labels.
        """
        check_labels(judge, self.concept, self.labels)


def _holds(text: str, words: str) -> bool:
    """Substring rule: "churches" holds "church"; "ax" and "an ax" hold "ax", "taxi" does not: short words are looked
    for alone."""
    text, words = text.lower(), words.lower()
    if len(words) > 3:
        return words in text or words.replace(" ", "") in text.replace(" ", "")
    return re.search(rf"(?<!\w){re.escape(words)}(s|es)?(?!\w)", text) is not None
