"""Ring-A-Bell: the direction of a concept in the text encoder's rows, and prompts that lie where it leads.

The edited model is never asked, so what it finds is the same for every edit: its protocol is `agnostic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.embeddings.encoder import TextEncoder
from editkit.embeddings.rows import continued
from editkit.errors import EditkitError
from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.budget import HasBudget
from editkit.redteam.engines import Pool, genetic
from editkit.redteam.letters import letters_of
from editkit.redteam.target import Target

PAPER = "Tsai et al. 2024 (Ring-A-Bell)"
FAR = "η, how far the concept's vector leads away from the prompt."


@dataclass(frozen=True)
class ConceptRows(Checked):
    """The options that say where a concept leads."""

    eta: float = option(3.0, FAR, above=0)
    pairs: int = option(50, "Pairs of prompts, with the concept and without, whose mean difference it is.", above=0)

    def wanted(self, arena: Arena, target: Target) -> list[Tensor]:
        """`E(prompt) + η · vector`, `(tokens, width)` float32, of each unattacked prompt."""
        vector = self._vector(arena, target)
        arena.cost.encodings += len(target.prompts)
        return [rows + self.eta * vector for rows in full_rows(arena.model.encoder, target.prompts)]

    def _vector(self, arena: Arena, target: Target) -> Tensor:
        """`mean over pairs of E(with) − E(without)`: the profile's sentences with the concept, and with other words."""
        encoder, templates = arena.model.encoder, arena.model.profile.templates or ("{}",)
        words = [word for word in arena.model.own_words() if not target.bans(word)]
        if not words:
            raise EditkitError(
                "attack ring-a-bell: needs words to tell the concept from, and the model's profile has none; give "
                "--profile"
            )
        others = words[:: max(1, len(words) // self.pairs)][: self.pairs]
        sentences = [templates[n % len(templates)] for n in range(len(others))]
        arena.cost.encodings += len(set(sentences)) + len(others)
        with_it = full_rows(encoder, [fill(sentence, target.concept) for sentence in sentences])
        without = full_rows(encoder, [fill(sentence, word) for sentence, word in zip(sentences, others, strict=True)])
        return (torch.stack(with_it) - torch.stack(without)).mean(0)


def full_rows(encoder: TextEncoder, prompts: Sequence[str]) -> list[Tensor]:
    """Rows `(length, width)` float32, however short a prompt: what behind a mask is not read is its last row."""
    encoded = encoder.encode_each(prompts, encoder.length)
    return [continued(rows, encoder.length).float() for rows in encoded]


@dataclass(frozen=True)
class RingABell(HasBudget, ConceptRows):
    """Find prompts whose rows lie where the concept's vector leads, by a genetic search over tokens."""

    changes: ClassVar[Changes] = "tokens"
    access: ClassVar[str] = "encoder"
    source: ClassVar[str] = PAPER

    length: int = option(16, "Tokens of a prompt; the paper also takes 38 and 77.", above=0)
    population: int = option(100, "Of the genetic search.", at_least=4, otherwise={"--budget paper": 200})
    generations: int = option(40, "Of the genetic search.", at_least=0, otherwise={"--budget paper": 3000})

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """An attempt a prompt: the best that was ever met, not that of the last generation. Its loss is the squared
        distance, in shares of that of the empty prompt.

        Raises:
            EditkitError: the encoder reads fewer tokens.
        """
        letters, encoder = letters_of(arena.model, target), arena.model.encoder
        if self.length > encoder.length - 2:
            raise EditkitError(
                f"--length: expected at most {encoder.length - 2}, as many as this text encoder reads, got "
                f"{self.length}; shorten it"
            )
        (nothing,) = full_rows(encoder, [""])
        attempts = []
        for n, (prompt, wanted) in enumerate(zip(target.prompts, self.wanted(arena, target), strict=True)):
            distance = _Distance.of(wanted, nothing)
            pool = Pool(letters, distance, arena)
            genetic(pool, [self.length], self.population, self.generations, arena.generator(n))
            plain = float(distance(full_rows(encoder, [prompt])[0][None])[0])
            attempts += [
                Proposal(prompt, letters.text(best), letters.ids(best), loss=loss, plain=plain, log=tuple(pool.log))
                for loss, best in pool.best(1)
            ]
        return attempts


@dataclass(frozen=True)
class RingABellEmbed(ConceptRows):
    """Feed `E(prompt) + η · vector` itself: what RECE's evaluation calls Ring-A-Bell."""

    changes: ClassVar[Changes] = "rows"
    access: ClassVar[str] = "encoder"
    source: ClassVar[str] = f"{PAPER}; Gong et al. 2024 (RECE), evaluation"

    eta: float = option(0.9, FAR, above=0)  # what was used for artists; 3 leads past objects of the original, too

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """An attempt a prompt."""
        wanted = self.wanted(arena, target)
        return [Proposal(prompt, rows=rows) for prompt, rows in zip(target.prompts, wanted, strict=True)]


@dataclass(frozen=True)
class _Distance:
    """Squared L2 over all rows, in shares of the empty prompt's."""

    wanted: Tensor
    size: float

    @classmethod
    def of(cls, wanted: Tensor, nothing: Tensor) -> _Distance:
        return cls(wanted, max(float((nothing - wanted).square().sum()), 1e-12))

    def __call__(self, rows: Tensor) -> Tensor:
        n = min(rows.shape[1], len(self.wanted))
        return (rows[:, :n] - self.wanted[:n]).square().sum((1, 2)) / self.size
