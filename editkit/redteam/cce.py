"""Textual inversion of what was erased: a new token's embedding, or rows behind the prompt's, learned from pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import fast
from editkit.edits.key import random_rows
from editkit.embeddings.learned import Vectors
from editkit.erasure.near import subject_rows
from editkit.inverting.descent import descend
from editkit.inverting.points import NoisyPictures, Points, any_times, even_times, gradient
from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.descent import Descent
from editkit.redteam.letters import TokenLetters
from editkit.redteam.points import losses
from editkit.redteam.soft_prompt import SoftPrompt
from editkit.redteam.target import Target
from editkit.redteam.token_search import HELD, LEARNING, check_one_clip
from editkit.redteam.victim import Victim

NOISE = 0.1
"""Of rows at the start, in lengths of the row that they start from: attention has no positions, so equal rows would
stay equal."""


@dataclass(frozen=True)
class InversionDescent(Descent):
    """A base for attacks that learn a few vectors from pictures of the concept."""

    iterations: int = option(80, "Steps of the optimiser.", above=0, otherwise={"--budget paper": 5000})
    rate: float = option(0.005, "Learning rate of an attack's optimiser.", above=0)
    decay: float = option(0.01, "Weight decay of an attack's optimiser.", at_least=0)
    points: int = option(8, "Noisy latents that an iteration looks at.", above=0, otherwise={"--budget paper": 16})
    target_images: int = option(
        8, "Pictures of the concept, drawn by the original, to learn from.", above=0, otherwise={"--budget paper": 25}
    )
    vectors: int = option(1, "Vectors that are learned.", above=0)
    starts_from: str = option("", "Word that the vectors start from. Default: the concept.")


@dataclass(frozen=True)
class CCE(InversionDescent, Checked):
    """Learn the embedding of a new token that lets the edited model denoise pictures of the concept."""

    changes: ClassVar[Changes] = "token-embedding"
    access: ClassVar[str] = "white-box"
    needs_noise: ClassVar[bool] = True
    source: ClassVar[str] = "Pham et al. 2024 (circumventing concept erasure)"

    rate: float = option(0.005, "Learning rate of an attack's optimiser.", above=0, otherwise={"--budget paper": 0.08})

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """One attempt: the new token in the place of the concept in the model's first sentence.

        Its figures are `norm`, how long the learned embedding is, and `table_norm`, how long those of the table are.

        Raises:
            EditkitError: the model's rows are not those of one CLIP.
        """
        check_one_clip("cce", arena)
        search = VectorSearch.of("cce", arena, target, self)
        letters, device = TokenLetters.of(arena.model.encoder, None), search.device
        prompts = [SoftPrompt.of(letters, self._pieces(template), device) for template in arena.model.profile.templates]
        table = prompts[0].dense.table
        word = letters.encoder.reader.part(self.starts_from or target.concept)[-1]
        start = table[word].expand(self.vectors, -1)

        def read(learned: Tensor, n: int) -> Condition:
            return Condition(prompts[n].rows(learned[None], arena.cost))

        learned = search.descend(start, read, len(prompts))
        figures = {"norm": float(learned.norm(dim=-1).mean()), "table_norm": float(table.norm(dim=-1).mean())}
        return [replace(search.found(target.prompts[0], read(learned, 0)), figures=figures)]

    def _pieces(self, template: str) -> list[str | None]:
        before, _, after = template.partition("{}")
        return [piece for piece in (before.strip(), *[None] * self.vectors, after.strip()) if piece != ""]


@dataclass(frozen=True)
class CCERows(InversionDescent, Checked):
    """Learn rows behind those of the prompt that let the edited model denoise pictures of the concept.

    They stand where `hide` puts the rows of a key: behind the whole prompt, of which nothing else changes. So it needs
    no place of the concept in the prompt and no text encoder with gradients, and serves every model.
    """

    changes: ClassVar[Changes] = "rows"
    access: ClassVar[str] = "white-box"
    needs_noise: ClassVar[bool] = True
    source: ClassVar[str] = "editkit; after Pham et al. 2024 (circumventing concept erasure)"

    vectors: int = option(4, "Vectors that are learned.", above=0)

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """An attempt an unattacked prompt, all with the same rows behind them."""
        search = VectorSearch.of("cce-rows", arena, target, self)
        prompts = [search.victim.raw([prompt], arena.cost) for prompt in target.prompts]
        centre = subject_rows(arena.model.encoder, [self.starts_from or target.concept]).float()
        start = random_rows(centre, self.vectors, NOISE * float(centre.norm()), arena.seed)[0]

        def read(learned: Tensor, n: int) -> Condition:
            asked = prompts[n]
            return replace(asked, text=torch.cat([asked.text, learned[None].to(asked.text)], 1), mask=None)

        learned = search.descend(start, read, len(prompts))
        figures = {"norm": float(learned.norm(dim=-1).mean()), "start_norm": float(centre.norm())}
        return [
            replace(search.found(prompt, read(learned, n)), figures=figures) for n, prompt in enumerate(target.prompts)
        ]


Read = Callable[[Tensor, int], Condition]
"""Vectors `(vectors, width)` and the number of a prompt → the rows of that prompt with them, before any map."""


@dataclass
class VectorSearch:
    """Vectors that are learned against the arena's victim.

    Attributes:
        held: points that no iteration sees.
        log: `(passes so far, best loss so far)`.
    """

    arena: Arena
    victim: Victim
    attack: InversionDescent
    learning: NoisyPictures
    held: Points
    log: list[tuple[int, float]] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, arena: Arena, target: Target, attack: InversionDescent) -> VectorSearch:
        victim = arena.victim_for(name)
        scheduler = victim.denoiser.scheduler
        learning = NoisyPictures(arena.target_images(target, attack.target_images).clean, scheduler)
        held = even_times(attack.held, scheduler.config.num_train_timesteps)
        return cls(arena, victim, attack, learning, learning.at(held, arena.generator(HELD)))

    @property
    def device(self) -> torch.device:
        return self.victim.denoiser.device

    def descend(self, start: Tensor, read: Read, prompts: int) -> Tensor:
        """The vectors of the smallest loss in the first prompt, `start` among them; each iteration takes one prompt.

        Returns:
            `(vectors, width)` float32.
        """
        generator = self.arena.generator(LEARNING)

        def slope(learned: Vectors) -> Sequence[Tensor]:
            prompt = int(torch.randint(prompts, (1,), generator=generator))
            return [self.gradient(learned[0], read, prompt, generator)]

        def loss(learned: Vectors) -> float:
            return self.loss(read(learned[0], 0))

        how, best = self.attack, start
        for way in descend([start.to(self.device)], how.iterations, how.rate, how.decay, slope, loss):
            (best,) = way.best
            if way.looked and way.step:
                self.log.append((self.arena.cost.passes, way.loss))
                self.arena.tell(f"best loss {way.loss:.4f}")
            if self.arena.is_over:
                break
        return best

    def gradient(self, learned: Tensor, read: Read, prompt: int, generator: torch.Generator) -> Tensor:
        """Of the loss at fresh points."""
        t = any_times(self.attack.points, self.victim.denoiser.scheduler.config.num_train_timesteps, generator)
        points, encoded = self.learning.at(t, generator), self.arena.cost.encodings
        with fast(self.device):
            slope = gradient(losses(self.victim, read(learned, prompt), points, self.arena.cost), learned)
        self.arena.cost.backward += len(points) + self.arena.cost.encodings - encoded
        return slope

    @torch.no_grad()
    def loss(self, raw: Condition) -> float:
        """On the points that no iteration sees."""
        with fast(self.device):
            return float(losses(self.victim, raw, self.held, self.arena.cost)[0])

    @torch.no_grad()
    def found(self, source: str, raw: Condition) -> Proposal:
        """An attempt: these rows are drawn in place of those of `source`."""
        plain = self.loss(self.victim.raw([source], self.arena.cost))
        return Proposal(source, rows=raw.text[0].cpu(), loss=self.loss(raw), plain=plain, log=tuple(self.log))
