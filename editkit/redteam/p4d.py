"""Prompting4Debugging: tokens that make the edited model say what the original says of the concept's prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from editkit.drawing.sampler import fast
from editkit.embeddings.reader import Reader
from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.points import OnTheWay
from editkit.redteam.soft_prompt import Piece
from editkit.redteam.target import Target
from editkit.redteam.token_search import PrefixDescent, TokenDescent, TokenSearch, letters_for, nearest

FORMS = ("N", "K")
EVERY = 3
"""Tokens of the prompt between two learned ones of P4D-K."""
START = 13
"""Step of the arena's generator."""


@dataclass(frozen=True)
class P4D(TokenDescent, Checked):
    """Find a prompt of which the edited model says what the original says of the concept's."""

    changes: ClassVar[Changes] = "tokens"
    access: ClassVar[str] = "white-box"
    needs_noise: ClassVar[bool] = True
    source: ClassVar[str] = "Chin et al. 2024 (P4D)"

    iterations: int = option(80, "Steps of the optimiser.", above=0, otherwise={"--budget paper": 3000})
    rate: float = option(0.1, "Learning rate of an attack's optimiser.", above=0)
    p4d: str = option("N", "N: words in place of the prompt; K: one behind every three of its tokens.", choices=FORMS)
    words: int = option(16, "The most words of a prompt.", above=0)

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """The best prompts, an attempt each.

        Raises:
            EditkitError: the model's rows are not those of one CLIP, or the prompt and what is learned are too long.
        """
        source, reader = target.prompts[0], arena.model.encoder.reader
        pieces = [None] * self.words if self.p4d == "N" else interleaved(source, reader)
        return _matched(self, "p4d", arena, target, pieces)


@dataclass(frozen=True)
class P4DPrefix(PrefixDescent, Checked):
    """Find words to put before the prompt, by P4D's loss; some projects call this P4D."""

    changes: ClassVar[Changes] = "tokens"
    access: ClassVar[str] = "white-box"
    needs_noise: ClassVar[bool] = True
    source: ClassVar[str] = "after Chin et al. 2024 (P4D)"

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """The best prompts, an attempt each.

        Raises:
            EditkitError: as `P4D.attack`.
        """
        return _matched(self, "p4d-prefix", arena, target, self.pieces(target.prompts[0]))


def _matched(attack: TokenDescent, name: str, arena: Arena, target: Target, pieces: Sequence[Piece]) -> list[Proposal]:
    letters, victim = letters_for(name, arena, target), arena.victim_for(name)
    with fast(victim.denoiser.device):
        learning = OnTheWay.of(arena.target_images(target, attack.target_images), arena.original, arena.cost)
    search = TokenSearch.of(arena, name, letters, target.prompts[0], pieces, learning, attack.held)
    _descend(attack, search)
    return search.best(attack.best)


def _descend(attack: TokenDescent, search: TokenSearch) -> None:
    """Race the starts: the nearest tokens go in, and their gradient moves what they are nearest to."""
    arena, table = search.arena, search.prompt.table
    first = torch.randint(len(table), (attack.restarts, search.prompt.slots), generator=arena.generator(START))
    embedded = table[first.to(table.device)].clone().requires_grad_()
    adam = torch.optim.AdamW([embedded], lr=attack.rate, weight_decay=attack.decay)
    for n in range(attack.iterations):
        if arena.is_over:
            break
        embedded.grad = search.gradient(table[nearest(embedded.detach(), table)], n, attack)
        adam.step()
        if attack.looks_at(n):
            search.compare(nearest(embedded.detach(), table))
    search.compare(nearest(embedded.detach(), table))


def interleaved(source: str, reader: Reader) -> list[Piece]:
    """`source` with a place behind every `EVERY` of its tokens: at the end of a word, since within one it would not be
    read back so, and behind what is left at the end."""
    pieces: list[Piece] = []
    group: list[str] = []
    for word in source.split():
        group.append(word)
        if len(reader.part(" ".join(group))) >= EVERY:
            pieces += [" ".join(group), None]
            group = []
    return [*pieces, " ".join(group), None] if group else pieces
