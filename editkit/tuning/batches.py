"""The points that a run is trained on: a bank of them, and each step's rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from editkit.seeds import seeded
from editkit.tuning.attended_masks import attended_masks
from editkit.tuning.latents import Points, Sampler, drawn_by, joined
from editkit.tuning.options import RefineOptions
from editkit.tuning.passes import Passes
from editkit.tuning.processes import Processes

STREAMS = 64
"""Generators of one step: `seeded(seed, STREAMS * step + purpose)`."""
BATCH, BANK, PROBE, NOISE = 0, 1, 2, 16
"""Purposes. From `NOISE` on, those of the inner steps of a search take turns: noise, points, noise, ..."""
STATES = 1000
"""Seeds of single rows begin so far behind that of the run."""


def generator(options: RefineOptions, step: int, purpose: int) -> torch.Generator:
    """All randomness of a step comes from its number, so that a resumed run is the same run."""
    return seeded(options.seed, STREAMS * step + purpose)


def states_of(options: RefineOptions, step: int, row: int) -> torch.Generator:
    """Of one row of a step's whole batch, whatever process has it."""
    return seeded(options.seed + STATES + row, STREAMS * step + BATCH)


@dataclass
class Batches:
    """Draws latents when they are due, and picks from them.

    Attributes:
        given: clean latents that a user's pictures have: then nothing is drawn.
        shares: how often each of the concepts is taken; empty: all alike.
        drawn: the step at which the bank was drawn; -1: never.
        bank: whole trajectories, or the clean latents of pictures; None: every point has a trajectory of its own.
    """

    options: RefineOptions
    passes: Passes
    sampler: Sampler
    processes: Processes
    given: Points | None = None
    shares: tuple[float, ...] = ()
    drawn: int = -1
    bank: Points | None = None
    _probes: dict[int, Points] = field(default_factory=dict, repr=False)

    def draw(self, i: int) -> None:
        """Draw the bank anew where it is due. NoisyPictures pictures never change: the teacher drew them."""
        if self.drawn >= 0 and not self._is_old(i):
            return
        self.drawn, self._probes = i, {}
        seed = generator(self.options, i, BANK)
        concept, template = self._prompts(seed)
        if self.options.loss.on_pictures:
            self.bank = self._pictures(concept, template, seed)
        elif self.options.bank:
            prompts = self.passes.prompts
            parts: list[Points] = []
            for whose in self.options.loss.latents:
                read = prompts.n if whose == "guide" else prompts.e
                parts.append(self.sampler.bank(concept, template, read, prompts.away, seed, teacher=whose != "student"))
            self.bank = self.passes.with_targets(joined(parts))

    def _is_old(self, i: int) -> bool:
        if self.options.loss.on_pictures:
            return False
        if self.bank is None:
            return True
        return i - self.drawn >= (self.options.refresh or math.ceil(len(self.bank) / self.options.draws))

    def _prompts(self, seed: torch.Generator) -> tuple[Tensor, Tensor]:
        """`trajectories` prompts of every concept, the templates in turn from a random one on."""
        count, prompts = self.options.trajectories, self.passes.prompts
        concept = torch.arange(prompts.count).repeat_interleave(count)
        first = torch.randint(prompts.templates, (prompts.count,), generator=seed)
        template = (first.repeat_interleave(count) + torch.arange(len(concept)) % count) % prompts.templates
        return concept.to(self.sampler.device), template.to(self.sampler.device)

    def _pictures(self, concept: Tensor, template: Tensor, seed: torch.Generator) -> Points:
        """Clean latents, at t = 0, with what of them is the concept where the loss reads that."""
        clean, prompts, loss = self.given, self.passes.prompts, self.options.loss
        if clean is None:
            shown = prompts.n if loss.pictures_of == "n" else prompts.e
            drawn = self.sampler.pictures(shown(concept, template), prompts.away, seed)
            clean = Points(drawn, torch.zeros_like(concept), concept, template)
        if loss.reads_attention != "object" or clean.mask is not None:
            return clean
        rows = self.options.micro(self.processes.count)
        return replace(clean, mask=attended_masks(self.passes, self.sampler, clean, seed, rows))

    def points(self, i: int, stream: int, like: Points | None = None) -> Points:
        """This process's rows of a batch: any concepts, or those of `like`, for an inner step of a search."""
        options, seed = self.options, generator(self.options, i, stream)
        concept = self._concepts(seed) if like is None else self.processes.whole(like.concept).cpu()
        if self.bank is None:
            template = torch.randint(self.passes.prompts.templates, (options.batch,), generator=seed)
            fresh = self._fresh(self.processes.mine(concept), self.processes.mine(template), i, stream)
            return self.passes.with_targets(fresh) if like is None else fresh
        chosen = self.bank[self.processes.mine(self._pick(concept, seed)).to(self.sampler.device)]
        return self._noised(chosen, seed) if options.loss.on_pictures else chosen

    def _concepts(self, seed: torch.Generator) -> Tensor:
        """Of every point of a batch."""
        if not self.shares:
            return torch.randint(self.passes.prompts.count, (self.options.batch,), generator=seed)
        return drawn_by(torch.tensor(self.shares), torch.rand((self.options.batch,), generator=seed))

    def _pick(self, concept: Tensor, seed: torch.Generator) -> Tensor:
        """A row of the bank for each concept of a batch, at random among its own."""
        assert self.bank is not None
        own = self.bank.concept.cpu()
        rows = [torch.nonzero(own == number)[:, 0] for number in range(self.passes.prompts.count)]
        choice = torch.rand((self.options.batch,), generator=seed)
        t = self.bank.t.cpu()
        return torch.stack(
            [rows[c][self.sampler.chosen(t[rows[c]], x)] for c, x in zip(concept.tolist(), choice, strict=True)]
        )

    def _noised(self, chosen: Points, seed: torch.Generator) -> Points:
        """Noise for the whole batch is drawn, so that it does not depend on the number of processes."""
        count = self.processes.count
        clean, concept, template = (
            part.repeat_interleave(count, 0) for part in (chosen.z, chosen.concept, chosen.template)
        )
        points = self.sampler.noised(clean, concept, template, seed)
        return replace(points[torch.arange(self.processes.index, len(points), count)], mask=chosen.mask)

    def _fresh(self, concept: Tensor, template: Tensor, i: int, stream: int) -> Points:
        device, prompts = self.sampler.device, self.passes.prompts
        seed = seeded(self.options.seed + 1 + self.processes.index, STREAMS * i + stream)
        return self.sampler.fresh(concept.to(device), template.to(device), prompts.e, prompts.away, seed)

    def probe(self, concept: int, count: int) -> Points:
        """The same points of a concept until the bank is drawn anew; without one, points of this step."""
        if concept not in self._probes:
            seed = generator(self.options, self.drawn, PROBE + 1 + concept % (NOISE - PROBE - 1))
            if self.bank is None:
                wanted = torch.full((count,), concept)
                self._probes[concept] = self._fresh(wanted, torch.zeros_like(wanted), self.drawn, PROBE)
            else:
                rows = torch.nonzero(self.bank.concept.cpu() == concept)[:, 0]
                some = rows[torch.randperm(len(rows), generator=seed)[:count]]
                self._probes[concept] = self.bank[some.to(self.sampler.device)]
        return self._probes[concept]

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "bank": None if self.bank is None else self.bank.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.drawn, self._probes = state["drawn"], {}
        if state["bank"] is not None:
            device = self.sampler.device
            self.bank = Points(**{name: value.to(device) for name, value in state["bank"].items()})
