"""Two ways to look for a prompt of small loss: greedy coordinate gradient, and a genetic search."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from editkit.redteam.arena import Arena
from editkit.redteam.letters import Letters, TokenLetters

MOST_REMEMBERED = 512
Loss = Callable[[Tensor], Tensor]
"""Rows `(batch, length, width)` → `(batch,)`."""


@dataclass
class Pool:
    """The best prompts ever seen: a search that keeps the last ones alone loses them.

    Attributes:
        log: `(encodings so far, best loss so far)`.
    """

    letters: Letters
    loss: Loss
    arena: Arena
    log: list[tuple[int, float]] = field(default_factory=list)
    _heap: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    _seen: set[tuple[int, ...]] = field(default_factory=set)

    @torch.no_grad()
    def losses(self, prompts: Tensor) -> Tensor:
        """Of `(batch, letters)`, each remembered. Prompts and what is known of them lie on the processor."""
        values = self.loss(self.letters.rows(prompts, self.arena.cost)).cpu()
        for value, prompt in zip(values.tolist(), map(tuple, prompts.tolist()), strict=True):
            if prompt not in self._seen and (
                len(self._heap) < MOST_REMEMBERED or value < -self._heap[0][0]
            ):  # the heap's first is the worst that is remembered
                self._seen.add(prompt)
                heapq.heappush(self._heap, (-value, prompt))
                if len(self._heap) > MOST_REMEMBERED:
                    self._seen.discard(heapq.heappop(self._heap)[1])
        best = self.best_loss
        if not self.log or best < self.log[-1][1]:
            self.log.append((self.arena.cost.encodings, best))
            self.arena.tell(f"best loss {best:.3f}")
        return values

    @property
    def best_loss(self) -> float:
        return -max(value for value, _ in self._heap)

    def best(self, count: int) -> list[tuple[float, tuple[int, ...]]]:
        """Loss and letters of the best prompts that are read back as they were meant, no two of the same letters."""
        chosen: dict[frozenset[int], tuple[float, tuple[int, ...]]] = {}
        for value, prompt in sorted(((-value, prompt) for value, prompt in self._heap)):
            letters = frozenset(letter for letter in prompt if letter >= 0)
            if letters not in chosen and self.letters.is_stable(prompt):
                chosen[letters] = (value, prompt)
            if len(chosen) == count:
                break
        return list(chosen.values())


def genetic(pool: Pool, lengths: Sequence[int], population: int, generations: int, generator: torch.Generator) -> None:
    """Keep the better half, cross it, and change a letter of half of the children (Tsai et al. 2024, Ring-A-Bell)."""
    longest, letters = max(lengths), pool.letters
    prompts = torch.randint(letters.count, (population, longest), generator=generator)
    sizes = torch.tensor(lengths)[torch.randint(len(lengths), (population,), generator=generator)]
    prompts[torch.arange(longest) >= sizes[:, None]] = -1
    values = pool.losses(prompts)
    for _ in range(generations):
        if pool.arena.is_over:
            return
        kept = values.argsort()[: population // 2]
        parents = prompts[kept][torch.randint(len(kept), (2, population - len(kept)), generator=generator)]
        cross = torch.rand(parents.shape[1:], generator=generator) < 0.5
        children = torch.where(cross, parents[0], parents[1])
        children = torch.where(parents[0] >= 0, torch.where(children >= 0, children, parents[0]), -1)
        at = torch.rand(children.shape, generator=generator).masked_fill(children < 0, -1).argmax(1)
        fresh = torch.randint(letters.count, (len(children),), generator=generator)
        changed = torch.rand(len(children), generator=generator) < 0.5
        children[torch.arange(len(children))[changed], at[changed]] = fresh[changed]
        new = pool.losses(children)
        prompts, values = torch.cat([prompts[kept], children]), torch.cat([values[kept], new])


def coordinate_gradient(
    pool: Pool, letters: TokenLetters, lengths: Sequence[int], restarts: int, rounds: int, swaps: int, top: int,
    generator: torch.Generator,
) -> None:  # fmt: skip
    """Greedy coordinate gradient (Zou et al. 2023, Algorithm 1): the gradient at the one-hot letters proposes swaps,
    the loss chooses."""
    for restart in range(restarts):
        size = lengths[restart % len(lengths)]
        prompt = torch.randint(letters.count, (1, size), generator=generator)
        for _ in range(rounds):
            if pool.arena.is_over:
                return
            promising = (-_gradient(pool, letters, prompt)).topk(min(top, letters.count), dim=-1).indices.cpu()
            places = torch.arange(swaps) % size  # spread evenly over the positions
            chosen = torch.randint(promising.shape[-1], (swaps,), generator=generator)
            candidates = prompt.repeat(swaps, 1)
            candidates[torch.arange(swaps), places] = promising[places, chosen]
            prompt = candidates[pool.losses(candidates).argmin()][None]


def _gradient(pool: Pool, letters: TokenLetters, prompt: Tensor) -> Tensor:
    """Of the loss in every letter at every place, `(size, count)`."""
    embedded = letters.dense.table[letters.padded(prompt)].requires_grad_()
    loss = pool.loss(letters.dense.rows_of(embedded))
    (gradient,) = torch.autograd.grad(loss.sum(), embedded)
    pool.arena.cost.encodings += 1
    pool.arena.cost.backward += 1
    return gradient[0, 1 : prompt.shape[1] + 1] @ letters.dense.table[letters.tokens].T
