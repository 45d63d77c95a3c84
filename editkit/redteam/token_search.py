"""What `unlearndiff` and `p4d` share: a race of prompts with learned tokens, and its judgement by fixed points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import at_once, fast
from editkit.errors import EditkitError
from editkit.inverting.points import Points, PointSource, any_times, even_times, gradient
from editkit.options import option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Proposal
from editkit.redteam.descent import Descent
from editkit.redteam.letters import TokenLetters
from editkit.redteam.points import losses
from editkit.redteam.soft_prompt import Piece, SoftPrompt
from editkit.redteam.target import Target
from editkit.redteam.victim import Victim

LEARNING, HELD = 10, 11
"""Steps of the arena's generator."""


@dataclass(frozen=True)
class TokenDescent(Descent):
    """The same, of tokens."""

    restarts: int = option(
        4, "Starts of the gradient.", above=0, otherwise={"--budget paper": 1},
    )  # fmt: skip
    best: int = option(4, "Prompts that are drawn.", above=0, otherwise={"--budget paper": 1})

    @property
    def turns(self) -> int:
        """How many training steps are visited in turn; 0: any, at random."""
        return 0

    def times(self, iteration: int, last: int, generator: torch.Generator) -> Tensor:
        """`(points,)` training steps for an iteration."""
        if not self.turns:
            return any_times(self.points, last, generator)
        turn = iteration * self.turns // self.iterations
        return even_times(self.turns, last)[turn].expand(self.points)


@dataclass(frozen=True)
class PrefixDescent(TokenDescent):
    """The same, of words before the prompt."""

    prefix: int = option(3, "Words of each.", above=0)
    timesteps: int = option(
        0, "Training steps visited in turn, of 50 the 10th, 30th, ..., 990th; 0: any, at random.", at_least=0,
        otherwise={"--budget paper": 50},
    )  # fmt: skip

    @property
    def turns(self) -> int:
        return min(self.timesteps, self.iterations)

    def pieces(self, source: str) -> list[Piece]:
        """The places, then the prompt."""
        return [*[None] * self.prefix, source]


@dataclass
class TokenSearch:
    """A soft prompt against the arena's victim.

    Attributes:
        source: the unattacked prompt.
        learning: where points to learn from come from.
        held: points that no iteration sees, for the loss that prompts are compared by.
        log: `(passes so far, best loss so far)`.
    """

    arena: Arena
    victim: Victim
    source: str
    prompt: SoftPrompt
    learning: PointSource
    held: Points
    log: list[tuple[int, float]] = field(default_factory=list)
    _known: dict[tuple[int, ...], float] = field(default_factory=dict)
    _generator: torch.Generator = field(default_factory=torch.Generator)

    @classmethod
    def of(
        cls, arena: Arena, attack: str, letters: TokenLetters, source: str, pieces: Sequence[Piece],
        learning: PointSource, held: int,
    ) -> TokenSearch:  # fmt: skip
        victim = arena.victim_for(attack)
        prompt = SoftPrompt.of(letters, pieces, victim.denoiser.device)
        last = victim.denoiser.scheduler.config.num_train_timesteps
        compared = learning.at(even_times(held, last), arena.generator(HELD))
        return cls(arena, victim, source, prompt, learning, compared, _generator=arena.generator(LEARNING))

    def losses(self, embedded: Tensor, points: Points) -> Tensor:
        """Of learned embeddings `(prompts, slots, width)`: `(prompts,)`, differentiable."""
        raw = Condition(self.prompt.rows(embedded, self.arena.cost))
        return losses(self.victim, raw, points, self.arena.cost)

    def gradient(self, embedded: Tensor, iteration: int, attack: TokenDescent) -> Tensor:
        """Of the loss at fresh points, in the embeddings that are put in."""
        last = self.victim.denoiser.scheduler.config.num_train_timesteps
        points = self.learning.at(attack.times(iteration, last, self._generator), self._generator)
        leaf = embedded.detach().requires_grad_()
        with fast(leaf.device):
            found = gradient(self.losses(leaf, points), leaf)
        self.arena.cost.backward += len(leaf) * (len(points) + 1)  # the denoiser's rows, and the text encoder's
        return found

    @torch.no_grad()
    def compare(self, chosen: Tensor) -> None:
        """Take prompts `(prompts, slots)` of letters into the race."""
        new = [prompt for prompt in map(tuple, chosen.tolist()) if prompt not in self._known]
        at_a_time = max(1, at_once(self.arena.original.denoiser, self.arena.sampling) // len(self.held))
        for some in (new[start : start + at_a_time] for start in range(0, len(new), at_a_time)):
            letters = torch.tensor(some, device=self.prompt.table.device)
            with fast(self.prompt.table.device):
                values = self.losses(self.prompt.table[letters], self.held)
            self._known.update(zip(some, values.tolist(), strict=True))
        self.log.append((self.arena.cost.passes, min(self._known.values())))
        self.arena.tell(f"best loss {self.log[-1][1]:.4f}")

    @cached_property
    @torch.no_grad()
    def plain(self) -> float:
        """The loss of the unattacked prompt."""
        asked = SoftPrompt.of(self.prompt.letters, [self.source], self.prompt.table.device)
        nothing = torch.zeros(1, 0, self.prompt.table.shape[1], device=self.prompt.table.device)
        with fast(nothing.device):
            raw = Condition(asked.rows(nothing, self.arena.cost))
            return float(losses(self.victim, raw, self.held, self.arena.cost)[0])

    def best(self, count: int) -> list[Proposal]:
        """The prompts of smallest loss that are read back as they were meant."""
        found: list[Proposal] = []
        for chosen in sorted(self._known, key=lambda prompt: (self._known[prompt], prompt)):
            if self.prompt.is_stable(chosen):
                found.append(self.found(chosen))
            if len(found) == count:
                break
        return found

    def found(self, chosen: tuple[int, ...]) -> Proposal:
        """A prompt of the race as an attempt."""
        return Proposal(
            self.source, self.prompt.text(chosen), self.prompt.letters.ids(chosen), loss=self._known[chosen],
            plain=self.plain, log=tuple(self.log),
        )  # fmt: skip


def letters_for(attack: str, arena: Arena, target: Target) -> TokenLetters:
    """The tokens that an attack may use.

    Raises:
        EditkitError: the model's rows are not those of one CLIP.
    """
    check_one_clip(attack, arena)
    return TokenLetters.of(arena.model.encoder, target)


def check_one_clip(attack: str, arena: Arena) -> None:
    """Refuse a model whose text encoder gives no gradients here.

    Raises:
        EditkitError: its rows are not those of one CLIP.
    """
    if arena.model.encoder.clip is None:
        raise EditkitError(
            f"attack {attack}: learns tokens of one CLIP, and {arena.model.source.name} has other text encoders; use "
            "cce-rows, or prompt"
        )


def nearest(embedded: Tensor, table: Tensor) -> Tensor:
    """The letter of the largest cosine with each of `(..., width)`, and of the first where several have it."""
    unit = torch.nn.functional.normalize
    return (unit(embedded, dim=-1) @ unit(table, dim=-1).T).argmax(-1)
