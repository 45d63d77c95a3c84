"""The closed-form prompt attack: real words whose edited rows come nearest to the concept's unedited ones.

Nobody is asked but the text encoder and the projections: no denoiser, no picture. So it costs seconds, and it runs on
every family whose prompts can be encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from editkit.concepts.templates import fill
from editkit.edits.edit import Edit
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel
from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.attention import AttentionDistance
from editkit.redteam.budget import HasBudget
from editkit.redteam.distance import KINDS, Distance, GatedDistance, RowDistance, Sight
from editkit.redteam.engines import Pool, coordinate_gradient, genetic
from editkit.redteam.letters import Letters, TokenLetters, letters_of, padded_rows
from editkit.redteam.target import Target
from editkit.redteam.victim import no_network

ENGINES = ("gcg", "genetic", "both")
FORMS = ("words", "prefix", "both")
SPARE = 4
"""Rows of padding after the longest prompt that are compared: the others are like them, and cost as much each."""


@dataclass(frozen=True)
class PromptSearch(HasBudget, Checked):
    """Find short prompts of real words whose edited rows come nearest to the concept's, by the text encoder alone."""

    changes: ClassVar[Changes] = "tokens"
    access: ClassVar[str] = "projections"
    source: ClassVar[str] = "editkit; search after Zou et al. 2023 (GCG) and Tsai et al. 2024 (Ring-A-Bell)"

    distance: str = option(
        "both",
        "Rows against rows by position, as sets, the outputs of attention; both: half of the prompts by position, half "
        "as sets.",
        choices=("both", *KINDS),
    )
    form: str = option(
        "both",
        "Words alone, words before the unattacked prompt (prefix), or two thirds and one third of them.",
        choices=FORMS,
    )
    engine: str = option("both", "Greedy coordinate gradient, genetic, or one after the other.", choices=ENGINES)
    words: int = option(4, "The most words of a prompt.", above=0)
    best: int = option(8, "Prompts that are drawn.", above=0)
    toward: str = option("a {}", "The prompt whose rows are looked for; {} is the concept.")
    population: int = option(300, "Of the genetic search.", at_least=4, otherwise={"--budget paper": 1000})
    generations: int = option(12, "Of the genetic search.", at_least=0, otherwise={"--budget paper": 100})
    restarts: int = option(4, "Starts of the gradient.", at_least=0, otherwise={"--budget paper": 8})
    search_rounds: int = option(12, "Of each restart.", at_least=0, otherwise={"--budget paper": 200})
    swaps: int = option(128, "Prompts tried in a round.", above=0, otherwise={"--budget paper": 512})
    top: int = option(256, "Letters a place that the gradient proposes.", above=0)

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """The best prompts, an attempt each."""
        return self.against(arena, target, [arena.variant])

    def against(self, arena: Arena, target: Target, variants: Sequence[Variant | None]) -> list[Proposal]:
        """One search against a set of edits: the worst of their losses is made small, since all share the encoder.

        Args:
            arena: its own variant is not asked.
            target: the concept.
            variants: the edits.
        """
        source, kinds = target.prompts[0], self._kinds()
        attempts: dict[str, Proposal] = {}
        alphabets: dict[str, Letters] = {}  # they keep the rows of what was met: distances share them
        for n, (kind, is_prefix) in enumerate(kinds):
            behind = source if is_prefix else ""
            wanted = source if is_prefix else fill(self.toward, target.concept)
            reach = self.words + arena.model.encoder.rows_in(behind or " ") + SPARE
            positions = _positions(arena.model, reach, variants)
            if behind not in alphabets:
                alphabets[behind] = letters_of(arena.model, target, positions=positions, behind=behind)
            letters = alphabets[behind]
            self._check_engine(arena.model, letters)
            distances = [self._distance(arena, wanted, variant, positions, kind) for variant in variants]
            pool = Pool(letters, lambda rows, all=distances: torch.stack([each(rows) for each in all]).amax(0), arena)
            self._fill(pool, arena.generator(2 * n), arena.generator(2 * n + 1))
            asked = arena.model.encoder.encode([source])[0][None, :positions].float()
            plain = float(pool.loss(asked)[0])
            share = self.best // len(kinds) + (n < self.best % len(kinds))
            for value, prompt in pool.best(share):
                text, ids = letters.text(prompt), letters.ids(prompt)
                attempts.setdefault(text, Proposal(source, text, ids, loss=value, plain=plain, log=tuple(pool.log)))
        return list(attempts.values())

    def losses(self, arena: Arena, target: Target, prompts: Sequence[str]) -> list[float]:
        """How near given prompts come to the concept: the least of the distances of rows that words alone are searched
        by."""
        encoder = arena.model.encoder
        reach = max(map(encoder.rows_in, prompts), default=0) + SPARE
        positions = _positions(arena.model, reach, [arena.variant])
        rows = padded_rows(encoder, prompts, positions)
        arena.cost.encodings += len(prompts)
        wanted = fill(self.toward, target.concept)
        kinds = [kind for kind, is_prefix in self._kinds() if not is_prefix] or ["set"]
        distances = [self._distance(arena, wanted, arena.variant, positions, kind) for kind in kinds]
        return torch.stack([distance(rows) for distance in distances]).amin(0).tolist()

    def _kinds(self) -> list[tuple[str, bool]]:
        """Distances, and whether the prompt that is looked for stands behind the words."""
        distances = ("pos", "set") if self.distance == "both" else (self.distance,)
        alone = [(distance, False) for distance in distances] if self.form != "prefix" else []
        return alone + ([(distances[-1], True)] if self.form != "words" else [])

    def _check_engine(self, model: EditableModel, letters: Letters) -> None:
        if self.engine == "gcg" and not isinstance(letters, TokenLetters):
            raise EditkitError(
                f"--engine gcg: needs gradients, which the encoders of {model.source.name} do not give here; "
                "use genetic"
            )

    def _fill(self, pool: Pool, first: torch.Generator, second: torch.Generator) -> None:
        """Search with the engines that are asked for."""
        lengths = range(1, self.words + 1)
        if self.engine != "gcg" or not isinstance(pool.letters, TokenLetters):
            genetic(pool, lengths, self.population, self.generations, first)
        if self.engine != "genetic" and isinstance(pool.letters, TokenLetters):
            longest_first = lengths[::-1]
            coordinate_gradient(
                pool, pool.letters, longest_first, self.restarts, self.search_rounds, self.swaps, self.top, second
            )

    def _distance(self, arena: Arena, asked: str, variant: Variant | None, positions: int, kind: str) -> Distance:
        if isinstance(variant, Edit) and variant.gate is not None:
            edited, original = (self._distance(arena, asked, each, positions, kind) for each in (variant.ungated, None))
            return GatedDistance(variant.gate.to(arena.model.device), edited, original)
        encoder = arena.model.encoder
        wanted, nothing = (rows[:positions] for rows in encoder.encode([asked, ""]))
        arena.cost.encodings += 2
        if kind == "attn":
            if arena.denoiser is None:
                raise no_network("prompt --distance attn")
            return AttentionDistance.of(arena, variant, wanted.float(), nothing.float())
        sight = Sight.of(arena.model, arena.model.streams[0], variant)
        return RowDistance.of(sight, wanted, nothing, kind == "pos")


def _positions(model: EditableModel, reach: int, variants: Sequence[Variant | None]) -> int:
    """How many rows of a prompt are compared: `reach`, but all where a gate looks at them."""
    gated = any(variant is not None and variant.gate is not None for variant in variants)
    return model.encoder.length if gated else min(model.encoder.length, reach)
