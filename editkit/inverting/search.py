"""One restart of textual inversion: vectors that descend the denoising loss of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampler import fast
from editkit.embeddings.learned import Vectors
from editkit.inverting.descent import Way, descend
from editkit.inverting.options import InvertOptions
from editkit.inverting.points import NoisyPictures, Points, PointSource, any_times, even_times, gradients
from editkit.inverting.soft_tokens import SoftTokens
from editkit.progress import progress
from editkit.seeds import seeded
from editkit.tuning.masks import Shown

HELD = 0
"""Step of the generator that held-out noise comes from; restarts have those after it."""
NOISE = 0.1
"""Of a start after the first, in lengths of the embedding that it is near."""

Loss = Callable[[Vectors, Points, Sequence[int]], Tensor]
"""Vectors, points, and which template each of these is read with → a number."""
Begun = Mapping[str, Any]
"""Where a restart was: the descents of it that ended, and the state of the one that did not."""


@dataclass(frozen=True)
class Side:
    """Pictures, or what counts of them: where points come from, and those that no step sees."""

    pictures: PointSource
    held: Points

    @classmethod
    def of(cls, clean: Tensor, counts: Tensor | None, scheduler: Any, options: InvertOptions) -> Side:
        """Of clean latents, and of each how much every place counts."""
        pictures = NoisyPictures(clean, scheduler, counts)
        times = even_times(options.held, scheduler.config.num_train_timesteps)
        return cls(pictures, pictures.at(times, seeded(options.seed, HELD)))


@dataclass(frozen=True)
class Found:
    """What a restart learned.

    Attributes:
        word: that it started from.
        erased: of the whole pictures, or of what masks hide.
        kept: of what masks leave; None without masks.
        steps: that were done.
        start, loss: on held-out noise, of the word and of `erased`.
        stopped: whether Ctrl-C ended it.
    """

    word: str
    erased: Vectors
    kept: Vectors | None
    steps: int
    start: float
    loss: float
    stopped: bool


@dataclass(frozen=True)
class Search:
    """Pictures, and the model that is to denoise them.

    Attributes:
        whole: the pictures.
        left, hidden: what masks leave of them and what they hide; None without masks.
    """

    tokens: SoftTokens
    templates: tuple[str, ...]
    options: InvertOptions
    whole: Side
    left: Side | None = None
    hidden: Side | None = None

    @classmethod
    def of(cls, tokens: SoftTokens, templates: tuple[str, ...], shown: Shown, options: InvertOptions) -> Search:
        denoiser = tokens.denoiser
        clean, stays = shown.latents(denoiser, options.flip)
        made = cls(tokens, templates, options, Side.of(clean, None, denoiser.scheduler, options))
        if stays is None:
            return made
        left = Side.of(clean, stays, denoiser.scheduler, options)
        hidden = Side.of(*shown.hidden().latents(denoiser, options.flip), denoiser.scheduler, options)
        return replace(made, left=left, hidden=hidden)

    def run(
        self,
        number: int,
        word: str,
        kept: str = "",
        begun: Begun | None = None,
        keep: Callable[[Begun], None] = lambda state: None,
    ) -> Found:
        """The restart of that number, from the embedding of a word.

        Masks: first the vectors of what stays, by the loss there alone, from the word `kept`. Then those of what is
        hidden in the same way; or, with `masked` whole, what the whole picture adds to those of what stays, which is
        kept small.

        Args:
            begun: where it was stopped; it goes on from there to the same result.
            keep: called at every look with where it is.
        """
        steps = _Descents(self, number, begun, keep)
        if self.left is None or self.hidden is None:
            way, stopped = steps.next(lambda: self._start(word, number, steps.generator), self.whole, self._loss)
            return Found(word, way.best, None, way.step, way.first, way.loss, stopped)
        left, stopped = steps.next(lambda: self._start(kept, number, steps.generator), self.left, self._loss)
        if self.options.masked == "hidden":
            if stopped:
                own = self._start(word, 0, steps.generator)
                loss = self.on_held(own, self.hidden.held, self._loss)
                return Found(word, own, left.best, left.step, loss, loss, True)
            way, stopped = steps.next(lambda: self._start(word, number, steps.generator), self.hidden, self._loss)
            return Found(word, way.best, left.best, left.step + way.step, way.first, way.loss, stopped)
        first = self.on_held(left.best, self.whole.held, self._loss)
        if stopped:
            return Found(kept, left.best, left.best, left.step, first, first, True)
        nothing = tuple(torch.zeros_like(rows) for rows in left.best)
        way, stopped = steps.next(lambda: nothing, self.whole, self._beside(left.best))
        whole = _sum(left.best, way.best)
        loss = self.on_held(whole, self.whole.held, self._loss)
        return Found(kept, whole, left.best, left.step + way.step, first, loss, stopped)

    def _start(self, word: str, number: int, generator: torch.Generator) -> Vectors:
        return tuple(
            rows.repeat(self.options.vectors, 1) + _noise(rows, self.options.vectors, generator, number)
            for rows in self.tokens.embedding_of(word)
        )

    def _beside(self, kept: Vectors) -> Loss:
        """Of what is added to vectors that stay as they are, and kept small."""
        size = [float(rows.norm()) for rows in kept]

        def loss(added: Vectors, points: Points, which: Sequence[int]) -> Tensor:
            far = sum((more.norm() / length).square() for more, length in zip(added, size, strict=True))
            return self._loss(_sum(kept, added), points, which) + self.options.together * far

        return loss

    @torch.no_grad()
    def on_held(self, learned: Vectors, held: Points, loss: Loss) -> float:
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


class _Descents:
    """The descents of one restart, one after another, from the first or from where they were."""

    def __init__(self, search: Search, number: int, begun: Begun | None, keep: Callable[[Begun], None]) -> None:
        self.search, self.number, self.keep = search, number, keep
        self.generator = seeded(search.options.seed, HELD + 1 + number)
        self.ended: list[Mapping[str, Any]] = []
        self._before = [] if begun is None else [*begun["ended"], begun["now"]]
        self._state = None if begun is None else begun["generator"]

    def next(self, start: Callable[[], Vectors], side: Side, loss: Loss) -> tuple[Way, bool]:
        """The end of a descent, and whether Ctrl-C ended it."""
        begun = self._before[len(self.ended)] if len(self.ended) < len(self._before) else None
        goes_on = begun is not None and len(self.ended) == len(self._before) - 1
        first = start()
        if goes_on and self._state is not None:
            self.generator.set_state(self._state)
        ways = self._ways(first, side, loss, begun)
        way, stopped = None, False
        try:
            if begun is not None and not goes_on:
                way = next(iter(ways))
            else:
                for way in progress(ways, self.search.options.steps + 1, self._told()):
                    if way.looked:
                        self.keep({"ended": self.ended, "now": way.state(), "generator": self.generator.get_state()})
                    if way.idle >= self.search.options.patience:
                        break
        except KeyboardInterrupt:
            if way is None:
                raise
            stopped = True
        assert way is not None
        self.ended.append(way.state())
        return way, stopped

    def _told(self) -> str:
        return f"restart {self.number + 1} of {self.search.options.restarts}"

    def _ways(self, start: Vectors, side: Side, loss: Loss, begun: Mapping[str, Any] | None) -> Iterable[Way]:
        search, options = self.search, self.search.options
        last = search.tokens.denoiser.scheduler.config.num_train_timesteps

        def slope(leaves: Vectors) -> list[Tensor]:
            points = side.pictures.at(any_times(options.points, last, self.generator), self.generator)
            which = int(torch.randint(len(search.templates), (1,), generator=self.generator))
            with fast(points.z.device, search.tokens.denoiser.half):
                value = loss(leaves, points, [which] * len(points))
            return gradients(value, list(leaves))

        def compared(learned: Vectors) -> float:
            return search.on_held(learned, side.held, loss)

        return descend(start, options.steps, options.rate, options.decay, slope, compared, begun)


def _noise(rows: Tensor, vectors: int, generator: torch.Generator, number: int) -> Tensor:
    """None for the first start."""
    fresh = torch.randn((vectors, rows.shape[1]), generator=generator).to(rows)
    return fresh * (NOISE * rows.norm() / rows.shape[1] ** 0.5) * bool(number)


def _sum(first: Vectors, second: Vectors) -> Vectors:
    return tuple(one + other for one, other in zip(first, second, strict=True))
