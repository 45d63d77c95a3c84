"""One restart of textual inversion: vectors that descend the denoising loss of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import fast
from editkit.embeddings.learned import Vectors
from editkit.inverting.descent import Way, descend
from editkit.inverting.masks import Shown
from editkit.inverting.options import InvertOptions
from editkit.inverting.points import NoisyPictures, Points, PointSource, any_times, even_times, gradients
from editkit.inverting.soft_tokens import SoftTokens
from editkit.progress import progress
from editkit.seeds import seeded

HELD = 0
"""Step of the generator that held-out noise comes from; restarts have those after it."""
NOISE = 0.1
"""Of a start after the first, in lengths of the embedding that it is near."""

Loss = Callable[[Vectors, Points, Sequence[int]], Tensor]
"""Vectors, points, and which template each of these is read with → a number."""


@dataclass(frozen=True)
class Found:
    """What a restart learned.

    Attributes:
        whole: of the whole pictures.
        kept: of what masks leave; None without masks.
        steps: that were done.
        start, loss: on held-out noise, of the word and of `whole`.
        stopped: whether Ctrl-C ended it.
    """

    word: str
    whole: Vectors
    kept: Vectors | None
    steps: int
    start: float
    loss: float
    stopped: bool


@dataclass(frozen=True)
class Search:
    """Pictures, and the model that is to denoise them.

    Attributes:
        whole: the pictures; `held` are points of them that no step sees.
        left, left_held: the same of what masks leave; None without masks.
    """

    tokens: SoftTokens
    templates: tuple[str, ...]
    options: InvertOptions
    whole: PointSource
    held: Points
    left: PointSource | None
    left_held: Points | None

    @classmethod
    def of(cls, tokens: SoftTokens, templates: tuple[str, ...], shown: Shown, options: InvertOptions) -> Search:
        denoiser = tokens.denoiser
        clean, stays = shown.latents(denoiser, options.flip)
        whole = NoisyPictures(clean, denoiser.scheduler)
        left = None if stays is None else NoisyPictures(clean, denoiser.scheduler, stays)
        held = even_times(options.held, denoiser.scheduler.config.num_train_timesteps)
        points = [None if each is None else each.at(held, seeded(options.seed, HELD)) for each in (whole, left)]
        assert points[0] is not None
        return cls(tokens, templates, options, whole, points[0], left, points[1])

    def run(self, number: int, word: str) -> Found:
        """The restart of that number, from the embedding of a word.

        Masks: first the vectors of what stays, by the loss there alone; then, with these fixed, what the whole picture
        adds to them, which is kept small.
        """
        generator = seeded(self.options.seed, HELD + 1 + number)
        start = tuple(
            rows.repeat(self.options.vectors, 1) + _noise(rows, self.options.vectors, generator, number)
            for rows in self.tokens.embedding_of(word)
        )
        if self.left is None or self.left_held is None:
            way, first, stopped = self._descended(start, self.whole, self.held, self._loss, generator, number)
            return Found(word, way.best, None, way.step, first, way.loss, stopped)
        left, first, stopped = self._descended(start, self.left, self.left_held, self._loss, generator, number)
        kept, size = left.best, [float(rows.norm()) for rows in left.best]

        def coupled(added: Vectors, points: Points, which: Sequence[int]) -> Tensor:
            far = sum((more.norm() / length).square() for more, length in zip(added, size, strict=True))
            return self._loss(_sum(kept, added), points, which) + self.options.together * far

        nothing = tuple(torch.zeros_like(rows) for rows in kept)
        first = self._held(kept, self.held, self._loss)
        if stopped:
            return Found(word, kept, kept, left.step, first, first, True)
        added, _, stopped = self._descended(nothing, self.whole, self.held, coupled, generator, number)
        whole = _sum(kept, added.best)
        loss = self._held(whole, self.held, self._loss)
        return Found(word, whole, kept, left.step + added.step, first, loss, stopped)

    def _descended(
        self, start: Vectors, pictures: PointSource, held: Points, loss: Loss, generator: torch.Generator, number: int
    ) -> tuple[Way, float, bool]:
        """The end of a descent, the loss of its start, and whether Ctrl-C ended it."""
        options, last = self.options, self.tokens.denoiser.scheduler.config.num_train_timesteps

        def slope(leaves: Vectors) -> list[Tensor]:
            points = pictures.at(any_times(options.points, last, generator), generator)
            which = int(torch.randint(len(self.templates), (1,), generator=generator))
            with fast(points.z.device, self.tokens.denoiser.half):
                value = loss(leaves, points, [which] * len(points))
            return gradients(value, list(leaves))

        def compared(learned: Vectors) -> float:
            return self._held(learned, held, loss)

        told = f"restart {number + 1} of {options.restarts}"
        ways: Iterable[Way] = descend(start, options.steps, options.rate, options.decay, slope, compared)
        way, first = None, 0.0
        try:
            for way in progress(ways, options.steps + 1, told):
                first = first if way.step else way.loss
                if way.idle >= options.patience:
                    break
        except KeyboardInterrupt:
            if way is None:
                raise
            return way, first, True
        assert way is not None
        return way, first, False

    @torch.no_grad()
    def _held(self, learned: Vectors, held: Points, loss: Loss) -> float:
        """On points that no step sees, templates in turn."""
        with fast(held.z.device, self.tokens.denoiser.half):
            return float(loss(learned, held, [n % len(self.templates) for n in range(len(held))]))

    def _loss(self, learned: Vectors, points: Points, which: Sequence[int]) -> Tensor:
        """Mean square difference from what is wanted."""
        used = sorted(set(which))
        read = Condition.joined([self.tokens.read(self.templates[n], learned) for n in used])
        rows = torch.tensor([used.index(n) for n in which], device=points.z.device)
        said = self.tokens.denoiser.predict(points.z, points.t, read[rows])
        return points.missed(said.float()).mean()


def _noise(rows: Tensor, vectors: int, generator: torch.Generator, number: int) -> Tensor:
    """None for the first start."""
    fresh = torch.randn((vectors, rows.shape[1]), generator=generator).to(rows)
    return fresh * (NOISE * rows.norm() / rows.shape[1] ** 0.5) * bool(number)


def _sum(first: Vectors, second: Vectors) -> Vectors:
    return tuple(one + other for one, other in zip(first, second, strict=True))
