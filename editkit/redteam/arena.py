"""What an attack is given: the attacked model, the original, a judge, a budget, and counters of what it takes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from editkit.drawing.guidance import Guidance
from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.drawing.sampler import at_once, fast, noise, pictures_of
from editkit.drawing.sampling import Sampling
from editkit.drawing.trajectory import trajectory
from editkit.edits.variant import Variant
from editkit.evaluation.detectors.detection import Detector
from editkit.model.editable import EditableModel
from editkit.redteam.cost import Cost
from editkit.redteam.noisy_ddim import NoisyDDIM
from editkit.redteam.shot import Shot
from editkit.redteam.target import Target
from editkit.redteam.target_images import TargetImages
from editkit.redteam.victim import Victim, no_network
from editkit.seeds import seeded

Drawing = tuple[Condition, str | None, Shot]
"""Raw rows of one picture, the prompt that they are of, and how to draw it."""


@dataclass
class Arena:
    """Where an attack meets a model.

    Attributes:
        model: as far as an edit reads it: encoders and projections.
        variant: what it is edited with; None is the unedited model.
        denoiser: of the original; None where nothing is drawn.
        judge: who looks at pictures; None where nobody does.
        seeds: of the pictures that count; no search may use them.
        seed: of the search.
        limit: seconds of the clock that one attack on one concept may take; None: as its options say.
        tell: shown beside the progress bar: best loss, success.
    """

    model: EditableModel
    variant: Variant | None
    denoiser: Denoiser | None
    judge: Detector | None
    sampling: Sampling
    seeds: tuple[int, ...]
    seed: int = 0
    limit: float | None = None
    tell: Callable[[str], None] = lambda text: None
    cost: Cost = field(default_factory=Cost)
    _start: float = field(default_factory=time.perf_counter)
    _images: dict[tuple[tuple[str, ...], int], TargetImages] = field(default_factory=dict)

    def begin(self) -> None:
        """A new attack on a new concept: nothing is spent."""
        self.cost, self._start = Cost(), time.perf_counter()

    @property
    def is_over(self) -> bool:
        """Whether the seconds are spent; an attack asks between rounds and returns what it has."""
        return self.limit is not None and time.perf_counter() - self._start > self.limit

    def victim_for(self, attack: str) -> Victim:
        """The attacked model, for the attack of that name.

        Raises:
            EditkitError: no denoiser was loaded.
        """
        if self.denoiser is None:
            raise no_network(attack)
        return self._victim

    @cached_property
    def _victim(self) -> Victim:
        assert self.denoiser is not None
        return Victim.of(self.denoiser, self.variant)

    @cached_property
    def original(self) -> Victim:
        """The unedited model."""
        assert self.denoiser is not None
        return Victim(self.denoiser)

    def generator(self, step: int = 0) -> torch.Generator:
        """For a step of the search: on the CPU, from its seed."""
        return seeded(self.seed, step)

    def target_images(self, target: Target, count: int) -> TargetImages:
        """What the original draws of the target, from the seeds 0, 1, ... of the search. Drawn once; every attack that
        asks is charged for it, so that its cost does not depend on what ran before."""
        key = (target.prompts, count)
        if key not in self._images:
            self._images[key] = TargetImages.drawn(self.original, self.sampling, *key)
            self.cost.seconds -= self._images[key].cost.seconds  # the clock of this attack is running
        spent = self._images[key].cost
        self.cost.passes += spent.passes
        self.cost.encodings += spent.encodings
        self.cost.seconds += spent.seconds
        return self._images[key]

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """Every prompt with every seed, by the attacked model as it is used."""
        raw = self.original.encoded(prompts, self.cost)
        return self.draw_rows([(raw[prompt], prompt, Shot(seed)) for prompt in prompts for seed in seeds])

    def draw_rows(self, asked: Sequence[Drawing]) -> list[Image.Image]:
        """One picture each, by the attacked model."""
        drawn: dict[int, Image.Image] = {}
        ways = [(shot.handover, shot.eta > 0) for _, _, shot in asked]
        for way in sorted(set(ways)):
            rows = [n for n, each in enumerate(ways) if each == way]
            batch = at_once(self._victim.denoiser, self.sampling)
            for start in range(0, len(rows), batch):
                some = rows[start : start + batch]
                drawn.update(zip(some, self._batch([asked[n] for n in some], *way), strict=True))
        return [drawn[n] for n in range(len(asked))]

    @torch.no_grad()
    def _batch(self, asked: Sequence[Drawing], handover: int, is_noisy: bool) -> list[Image.Image]:
        victim, original = self._victim, self.original
        denoiser = victim.denoiser
        guidance = Guidance.of(denoiser, self.sampling, self.variant)
        blank = self.original.encoded(["", guidance.away, *guidance.beside], self.cost)
        texts = [(raw, prompt) if shot.prompted else (blank[""], "") for raw, prompt, shot in asked]
        before = [guidance.away] * len(asked) if guidance.scale is not None else []
        more = [text for text in guidance.beside for _ in asked]
        led = {text: victim.away(blank[text], text) for text in {*before, *more}}
        raw = Condition.joined(
            [*(blank[text] for text in before), *(raw for raw, _, _ in asked), *(blank[text] for text in more)]
        )
        read = Condition.joined(
            [
                *(led[text] for text in before),
                *(victim.condition(*text) for text in texts),
                *(led[text] for text in more),
            ]
        )
        shots, scheduler = [shot for _, _, shot in asked], denoiser.schedule(self.sampling)
        if is_noisy:
            scheduler = NoisyDDIM.of(denoiser.scheduler, self.sampling.steps, shots)
        early = {int(t) for t in scheduler.timesteps[:handover]}

        def network(z: Tensor, t: Tensor, condition: Condition) -> Tensor:
            by_original = int(t[0]) in early
            return (original if by_original else victim).read(z, t, raw if by_original else condition, self.cost)

        noises = torch.stack([self._noise(denoiser, shot) for shot in shots]).to(denoiser.device)
        with fast(denoiser.device, denoiser.half):
            way = trajectory(
                network, scheduler, noises, read, guidance.scale, guided=guidance.guided, passes=guidance.passes
            )
            end = deque(way, maxlen=1).pop()
            return pictures_of(denoiser, end.z)

    def _noise(self, denoiser: Denoiser, shot: Shot) -> Tensor:
        return noise(denoiser.latent_shape(self.sampling.size), shot.seed) if shot.noise is None else shot.noise

    def judged(self, pictures: Sequence[Image.Image], target: Target) -> list[bool | None]:
        """Whether each shows the target; None where the judge failed on it, which is no failure of the attack."""
        if self.judge is None:
            return [None] * len(pictures)
        self.cost.judged += len(pictures)
        said = self.judge.detect(list(pictures)) if pictures else []
        return [None if each.error is not None else each.sees(target.labels) for each in said]

    def of(self, variant: Variant | None) -> Arena:
        """The same against another variant."""
        return replace(self, variant=variant, cost=Cost())
