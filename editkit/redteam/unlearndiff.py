"""UnlearnDiffAtk: words before the prompt that let the edited model denoise pictures of the concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editkit.inverting.points import NoisyPictures
from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.target import Target
from editkit.redteam.token_search import PrefixDescent, TokenSearch, letters_for

START = 12
"""Step of the arena's generator."""


@dataclass(frozen=True)
class UnlearnDiff(PrefixDescent, Checked):
    """Find words to put before the prompt, so that the edited model denoises pictures of the concept."""

    changes: ClassVar[Changes] = "tokens"
    access: ClassVar[str] = "white-box"
    needs_noise: ClassVar[bool] = True
    source: ClassVar[str] = "Zhang et al. 2024 (UnlearnDiffAtk)"

    judge_in_loop: bool = option(
        False, "Draw and judge after every one of the --timesteps, and stop at the first success.",
        flag="--judge-in-loop/--no-judge-in-loop", otherwise={"--budget paper": True},
    )  # fmt: skip

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """The best prompts, an attempt each: words, and the first unattacked prompt behind them.

        Raises:
            EditkitError: the model's rows are not those of one CLIP, or the prompt leaves no room for the words.
        """
        letters, source = letters_for("unlearndiff", arena, target), target.prompts[0]
        victim = arena.victim_for("unlearndiff")
        learning = NoisyPictures(arena.target_images(target, self.target_images).clean, victim.denoiser.scheduler)
        search = TokenSearch.of(arena, "unlearndiff", letters, source, self.pieces(source), learning, self.held)
        done = self._descend(search, target)
        return search.best(self.best) if done is None else [done]

    def _descend(self, search: TokenSearch, target: Target) -> Proposal | None:
        """Race the starts; what the judge confirms on the way."""
        arena, table = search.arena, search.prompt.table
        generator = arena.generator(START)
        share = to_simplex(torch.rand(self.restarts, self.prefix, len(table), generator=generator)).to(table)
        share.requires_grad_()
        adam = torch.optim.Adam([share], lr=self.rate, weight_decay=self.decay)
        for n in range(self.iterations):
            if arena.is_over:
                break
            chosen = drawn(share.detach(), generator)
            # straight through: the sampled tokens go in, and their gradient goes to all shares, e = p · table
            share.grad = search.gradient(table[chosen], n, self) @ table.T
            adam.step()
            share.data.copy_(to_simplex(share.detach()))
            if self.looks_at(n):
                search.compare(share.detach().argmax(-1))
            if self._ends_a_turn(n) and (won := self._judged(search, share.detach().argmax(-1), target)) is not None:
                return won
        search.compare(share.detach().argmax(-1))
        return None

    def _ends_a_turn(self, n: int) -> bool:
        turns = max(1, self.turns)
        return self.judge_in_loop and (n + 1) * turns // self.iterations > n * turns // self.iterations

    def _judged(self, search: TokenSearch, chosen: Tensor, target: Target) -> Proposal | None:
        """The first prompt that draws the concept, from a seed of the search."""
        search.compare(chosen)
        stable = [prompt for prompt in dict.fromkeys(map(tuple, chosen.tolist())) if search.prompt.is_stable(prompt)]
        pictures = search.arena.draw([search.prompt.text(prompt) for prompt in stable], [0])
        for prompt, hit in zip(stable, search.arena.judged(pictures, target), strict=True):
            if hit:
                return search.found(prompt)
        return None


def drawn(share: Tensor, generator: torch.Generator) -> Tensor:
    """A letter for every place, each with the probability of its share: `(..., letters)` → `(...)`."""
    flat = torch.multinomial(share.cpu().flatten(0, -2), 1, generator=generator)
    return flat.view(share.shape[:-1]).to(share.device)


def to_simplex(x: Tensor) -> Tensor:
    """The nearest shares, none negative and their sum 1, along the last dimension (Duchi et al. 2008, Fig. 1).

    >>> [round(share, 3) for share in to_simplex(torch.tensor([0.6, 0.8, -1.0])).tolist()]
    [0.4, 0.6, 0.0]
    """
    high = x.sort(dim=-1, descending=True).values
    over = (high.cumsum(-1) - 1) / torch.arange(1, x.shape[-1] + 1, device=x.device)
    last = (high > over).sum(-1, keepdim=True) - 1
    return (x - over.gather(-1, last)).clamp(min=0)
