"""What a model brings along: the words that it knows, the sentences that suit it, who judges its pictures, how to draw
and to train it. Every model has one: its own, that of a file (`editkit.concepts.profile_file`), or the default."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any
from zlib import crc32

from editkit.concepts.templates import ARTIST_EXPANSIONS, TEMPLATES
from editkit.concepts.vocabulary import common_words

PREDICTIONS = ("epsilon", "v_prediction")
"""What a network may be trained to predict: the noise, or the velocity."""

SLOW_STEP = 10
"""Where every word is run with its padding or with instructions before it, time allows a tenth of the common words."""


@dataclass(frozen=True)
class Judge:
    """Who looks at a model's pictures where nobody else is asked for.

    Attributes:
        name: of a detector: see `editkit detectors`.
        options: of that detector.
        labels: word → what the judge calls it, for words that it calls otherwise.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RefineDefaults:
    """What suits a model that is trained away from concepts.

    Attributes:
        templates: sentences around the concepts. The papers train on the bare name.
        options: of `editkit.tuning.options.RefineOptions`, in place of the papers' values.
        rates: objective → its learning rate, where that is not the one in `options`.
    """

    templates: tuple[str, ...] = ("{}",)
    options: Mapping[str, Any] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """What a model brings along. The defaults serve every model that nothing else is known of.

    >>> birds = Profile("birds", ("heron", "egret", "bird"), {"heron": ("egret",)}, {"bird": ("heron",)})
    >>> birds.taught_as_same(["bird"])
    ['heron', 'heron', 'egret']
    >>> birds.named_in("an egret by a lake"), birds.labels_of("an egret by a lake")
    ('egret', ('heron',))

    Attributes:
        words: the vocabulary that edits protect; None: common English words.
        synonyms: word → others that are taught as the same.
        hypernyms: word → the words that it stands for.
        examples: those of `words` that a picture of is worth a look; None: all.
        knows: every single word that a prompt may hold; None: the model is trusted to know all.
        advice: how the refusal of a word that it does not know ends.
        templates: sentences in which a concept is erased.
        vocabulary_templates: sentences in which the vocabulary is protected. There are many words: one will do.
        vocabulary_turns: groups of sentences of which each word is protected in one: what is said in none of them, such
            as a colour, an edit is free to change behind every word.
        styles: words that say how a thing is drawn, not what. They are no part of `words`.
        style_templates: sentences in which a style is erased, and the other styles are protected meanwhile.
        measures_damage: tell of unprotected edits, too, what they damage; that takes a run of every word.
        captions: "module:NAME" of what makes neutral captions for a gate, `(count, seed)` → texts; empty: nothing does.
        judge: None: nobody knows the model's pictures; a suite or the user names a detector.
        prediction: of a single-file checkpoint, one of `PREDICTIONS`: what its network predicts; None: what the file
            says, else what is usual in its family.
        sampling: of `editkit.drawing.sampling.Settings`, in place of its defaults.
        refine: how it is trained.
    """

    name: str = "default"
    words: tuple[str, ...] | None = None
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hypernyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    examples: tuple[str, ...] | None = None
    knows: frozenset[str] | None = None
    advice: str = ""
    templates: tuple[str, ...] = TEMPLATES
    vocabulary_templates: tuple[str, ...] = ("a {}",)
    vocabulary_turns: tuple[tuple[str, ...], ...] = ()
    styles: tuple[str, ...] = ()
    style_templates: tuple[str, ...] = ARTIST_EXPANSIONS
    measures_damage: bool = False
    captions: str = ""
    judge: Judge | None = None
    prediction: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    refine: RefineDefaults = field(default_factory=RefineDefaults)

    @cached_property
    def sha256(self) -> str:
        """Of all that it says; its name is not part of it, and of a judge's files only their names are."""
        unsaid = ["name", "advice", "captions"]  # and what older records do not know, where it is not used
        unsaid += [] if self.styles else ["styles", "style_templates"]
        unsaid += [] if self.vocabulary_turns else ["vocabulary_turns"]
        unsaid += [] if self.prediction else ["prediction"]
        said = {key: value for key, value in asdict(self).items() if key not in unsaid}
        return hashlib.sha256(json.dumps(said, sort_keys=True, default=_plain).encode()).hexdigest()

    @property
    def record(self) -> dict[str, str]:
        """What edits and results say of it."""
        return {"name": self.name, "sha256": self.sha256}

    def own_words(self, slow: bool) -> list[str]:
        """The vocabulary; of the common words, for an encoder that is `slow`, every tenth."""
        return list(common_words())[:: SLOW_STEP if slow else 1] if self.words is None else list(self.words)

    def is_style(self, concept: str) -> bool:
        """Whether a concept is one of the styles."""
        return concept.strip().lower() in {style.lower() for style in self.styles}

    def templates_for(self, concept: str) -> tuple[str, ...]:
        """The sentences in which it is erased."""
        return self.style_templates if self.is_style(concept) else self.templates

    def sentences_for(self, word: str) -> tuple[str, ...]:
        """The sentences in which it is protected. Its turn depends on the word alone, not on those beside it."""
        if self.is_style(word):
            return self.style_templates
        turn = crc32(word.lower().encode())
        return (*self.vocabulary_templates, *(group[turn % len(group)] for group in self.vocabulary_turns))

    def taught_as_same(self, concepts: Sequence[str]) -> list[str]:
        """Synonyms of the concepts, and the members where a concept is a hypernym."""
        same: list[str] = []
        for concept in concepts:
            same += self.hypernyms.get(concept, ())
            for name, synonyms in self.synonyms.items():
                if concept == name or concept in synonyms or name in same:
                    same += [name, *synonyms]
        return same

    @cached_property
    def meanings(self) -> dict[str, tuple[str, ...]]:
        """Lower-case word → the judge's labels for it: its own, that of the word it is a synonym of, those of the words
        that it stands for."""
        told = {} if self.judge is None else self.judge.labels
        others = {word for words in self.synonyms.values() for word in words} | set(self.hypernyms)
        meanings = {word: told.get(word, (word,)) for word in self.words or () if word not in others or word in told}
        meanings |= {word: labels for word, labels in told.items() if word not in meanings}
        for name, words in self.synonyms.items():
            meanings |= {word: meanings.get(name, (name,)) for word in words if word not in meanings}
        for name, members in self.hypernyms.items():
            labels = (label for member in members for label in meanings.get(member, (member,)))
            meanings.setdefault(name, tuple(dict.fromkeys(labels)))
        return {word.lower(): labels for word, labels in meanings.items()}

    def named_in(self, prompt: str) -> str | None:
        """The longest known word in `prompt`: "a hot dog in red" is about a hot dog, not a dog. Else None."""
        text = prompt.lower()
        ordered = sorted(self.meanings, key=len, reverse=True)
        return next((word for word in ordered if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)), None)

    def labels_of(self, prompt: str) -> tuple[str, ...]:
        """What the judge should see in a picture of `prompt`; empty where the prompt names nothing that it knows."""
        return self.meanings.get(self.named_in(prompt) or "", ())


DEFAULT = Profile()
ProfileOrFile = Profile | str | os.PathLike[str]
"""What `profile=` takes: a file is read by `editkit.concepts.profile_file`."""


def load_profile(place: str | Profile) -> Profile:
    """A profile, or the one that "module:NAME" has: a model can name it without loading what is in it."""
    if isinstance(place, Profile):
        return place
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _plain(value: Any) -> Any:
    """What JSON has no form for."""
    return value.name if isinstance(value, Path) else sorted(value)
