"""One outer step: points, search, loss, update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from editkit.errors import EditkitError
from editkit.seeds import seeded
from editkit.tuning.denoisers import Denoisers, predict
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.latents import Points, Sampler, joined
from editkit.tuning.objectives import Key, Terms
from editkit.tuning.options import RefineOptions
from editkit.tuning.prompts import Prompts
from editkit.tuning.search.gumbel import gumbel_noise
from editkit.tuning.search.request import Finder, Found, Request

TEACHER_ROWS = 32
STREAMS = 64
"""Generators of one step: `seeded(seed, STREAMS * step + purpose)`."""
BATCH, BANK, PROBE, NOISE = 0, 1, 2, 16


@dataclass(frozen=True)
class Step:
    """What a step did: means over its rows, and the names of the searched concepts."""

    loss: float
    erase: float
    preserve: float
    found: tuple[str, ...]
    rows: int


@dataclass
class Trainer:
    """`step(i)` makes one update. All randomness comes from `i`, so that a resumed run is the same run."""

    options: RefineOptions
    networks: Denoisers
    trained: Mapping[str, Any]
    prompts: Prompts
    sampler: Sampler
    accelerator: Any
    optimizer: Any
    search: Finder | None
    key: KeyRows | None = None
    given: Tensor | None = None
    drawn: int = -1
    bank: Points | None = None
    clean: Tensor | None = None
    _probes: dict[int, Points] = field(default_factory=dict, repr=False)

    def step(self, i: int) -> Step:
        """Raises `EditkitError` where the loss is not finite; nothing is updated then."""
        self._draw_latents(i)
        points = self._points(i, BATCH)
        found = self._search(i, points) if self.search is not None else None
        micro = max(1, len(points) // self.options.accumulate)
        starts = range(0, len(points), micro)
        totals = torch.zeros(2)
        for start in starts:
            rows = slice(start, start + micro)
            last = start == starts[-1]
            with self._unsynchronised(not last):
                terms = self._terms(points[rows], None if found is None else found.text[rows])
                weight = self._weigh(points.t[rows])
                loss = (weight * terms.loss(self.options.lamb)).sum() / len(points)
                _check_finite(loss, i)
                self.accelerator.backward(loss)
            totals += torch.stack([(weight * terms.erase).sum(), (weight * terms.preserve).sum()]).detach().cpu()
        self._update()
        erase, preserve = (self._reduced(totals / len(points))).tolist()
        names = () if found is None else self._names(points, found)
        return Step(erase + self.options.lamb * preserve, erase, preserve, names, self.options.batch)

    def _update(self) -> None:
        if self.key is not None:  # no part of the network, whose gradients the processes have averaged already
            assert self.key.rows.grad is not None
            self.key.rows.grad = self._reduced(self.key.rows.grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.key is not None:
            self.key.project()

    def _terms(self, points: Points, text: Tensor | None) -> Terms:
        """Both terms for every row: one pass of the student for all prompts that the loss reads."""
        objective = self.options.loss
        own = {"e": self.prompts.e, "n": self.prompts.n, "p": self._with_key}
        read: dict[Key, Tensor] = {
            key: own[key](points.concept, points.template) for key in objective.student if key != "a"
        }
        teacher: dict[Key, Tensor] = {key: getattr(points, key) for key in objective.teacher if key != "a"}
        if text is not None:
            read["a"] = text
            with torch.no_grad():
                teacher["a"] = self.networks.teacher(points.z, points.t, text)
        student = predict(self.networks.student, points.z, points.t, read, training=True)
        return objective.loss(student, teacher, self.options.eta)

    def _with_key(self, concept: Tensor, template: Tensor) -> Tensor:
        assert self.key is not None
        return self.key.behind(self.prompts.e(concept, template), concept)

    def _search(self, i: int, points: Points) -> Found:
        assert self.search is not None
        options = self.options
        k = self.prompts.candidates.shape[1]

        def noise(iteration: int) -> Tensor:
            return self._mine(gumbel_noise((options.batch, k), self._generator(i, NOISE + 2 * iteration)))

        iterations = iter(range(NOISE + 1, STREAMS, 2))
        return self.search.find(
            Request(
                step=i,
                drawn=self.drawn,
                outer=points,
                fresh=lambda: self._points(i, next(iterations), points),
                probe=self._probe,
                prompts=self.prompts,
                networks=self.networks,
                objective=options.loss,
                lamb=options.lamb,
                weigh=self._weigh,
                micro=max(1, len(points) // options.accumulate),
                noise=noise,
                reduced=self._reduced,
            )
        )

    def _draw_latents(self, i: int) -> None:
        """Draw the bank anew where it is due. Noised pictures never change: the teacher drew them."""
        options = self.options
        if self.drawn >= 0 and not self._latents_are_old(i):
            return
        self.drawn, self._probes = i, {}
        seed = self._generator(i, BANK)
        concept, template = self._prompts_of_bank(seed)
        if options.loss.on_pictures:
            if self.given is None:
                self.clean = self.sampler.pictures(self.prompts.n(concept, template), self.prompts.neutral, seed)
            else:
                self.clean = self.given
                concept = torch.zeros(len(self.given), dtype=torch.long, device=self.sampler.device)
                template = torch.arange(len(concept), device=concept.device) % self.prompts.templates
            self.bank = Points(self.clean, torch.zeros_like(concept), concept, template)
        elif options.bank:
            drawn = [
                self.sampler.bank(concept, template, self.prompts.e, self.prompts.neutral, seed, whose == "teacher")
                for whose in options.loss.latents
            ]
            self.bank = self._with_targets(joined(drawn))

    def _latents_are_old(self, i: int) -> bool:
        if self.clean is not None:
            return False
        if self.bank is None:
            return True
        return i - self.drawn >= (self.options.refresh or math.ceil(len(self.bank) / self.options.draws))

    def _prompts_of_bank(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`trajectories` prompts of every concept, the templates in turn from a random one on."""
        count = self.options.trajectories
        concept = torch.arange(self.prompts.count).repeat_interleave(count)
        first = torch.randint(self.prompts.templates, (self.prompts.count,), generator=generator)
        template = (first.repeat_interleave(count) + torch.arange(len(concept)) % count) % self.prompts.templates
        return concept.to(self.sampler.device), template.to(self.sampler.device)

    def _points(self, i: int, stream: int, like: Points | None = None) -> Points:
        """This process's rows of a batch: any concepts, or those of `like`."""
        options, generator = self.options, self._generator(i, stream)
        if like is None:
            concept = torch.randint(self.prompts.count, (options.batch,), generator=generator)
        else:
            concept = self._all(like.concept).cpu()
        if self.bank is None:
            template = torch.randint(self.prompts.templates, (options.batch,), generator=generator)
            fresh = self._fresh(self._mine(concept), self._mine(template), i, stream)
            return self._with_targets(fresh) if like is None else fresh
        own = self.bank.concept.cpu()
        choice = torch.rand((options.batch,), generator=generator)
        rows = [torch.nonzero(own == one)[:, 0] for one in range(self.prompts.count)]
        picked = torch.stack([rows[c][int(x * len(rows[c]))] for c, x in zip(concept.tolist(), choice, strict=True)])
        chosen = self.bank[self._mine(picked).to(self.sampler.device)]
        if self.clean is None:
            return chosen
        return self._noised(chosen, generator)

    def _noised(self, chosen: Points, generator: torch.Generator) -> Points:
        """Noise for the whole batch is drawn, so that it does not depend on the number of processes."""
        count = self.accelerator.num_processes
        clean, concept, template = (
            part.repeat_interleave(count, 0) for part in (chosen.z, chosen.concept, chosen.template)
        )
        points = self.sampler.noised(clean, concept, template, generator)
        return points[torch.arange(self.accelerator.process_index, len(points), count)]

    def _fresh(self, concept: Tensor, template: Tensor, i: int, stream: int) -> Points:
        device, rank = self.sampler.device, self.accelerator.process_index
        generator = seeded(self.options.seed + 1 + rank, STREAMS * i + stream)
        return self.sampler.fresh(
            concept.to(device), template.to(device), self.prompts.e, self.prompts.neutral, generator
        )

    def _probe(self, concept: int, count: int) -> Points:
        """The same points until the bank is drawn anew; without one, points of this step."""
        if concept not in self._probes:
            generator = self._generator(self.drawn, PROBE + 1 + concept % (NOISE - PROBE - 1))
            if self.bank is None:
                wanted = torch.full((count,), concept)
                self._probes[concept] = self._fresh(wanted, torch.zeros_like(wanted), self.drawn, PROBE)
            else:
                rows = torch.nonzero(self.bank.concept.cpu() == concept)[:, 0]
                some = rows[torch.randperm(len(rows), generator=generator)[:count]]
                self._probes[concept] = self.bank[some.to(self.sampler.device)]
        return self._probes[concept]

    @torch.no_grad()
    def _with_targets(self, points: Points) -> Points:
        """With the teacher's outputs for the prompts that do not change: computed once, kept with the points."""
        texts = {"n": self.prompts.n, "e": self.prompts.e}
        read = [key for key in self.options.loss.teacher if key in texts]
        kept: dict[str, Tensor] = {}
        for key in read:
            parts = []
            for start in range(0, len(points), TEACHER_ROWS):
                some = points[start : start + TEACHER_ROWS]
                parts.append(self.networks.teacher(some.z, some.t, texts[key](some.concept, some.template)))
            kept[key] = torch.cat(parts)
        return replace(points, **kept)

    def _weigh(self, t: Tensor) -> Tensor:
        """1, or with the authors' recipe what turns a distance of outputs into one of the x₀ that they stand for."""
        if self.options.recipe != "authors":
            return torch.ones(len(t), device=t.device)
        known = self.sampler.scheduler.alphas_cumprod.to(t.device)[t]
        kind = self.sampler.scheduler.config.prediction_type
        if kind == "epsilon":  # x₀ = (z − √(1−ᾱ) ε) / √ᾱ
            return (1 - known) / known
        return 1 - known if kind == "v_prediction" else torch.ones_like(known)  # x₀ = √ᾱ z − √(1−ᾱ) v

    def _names(self, points: Points, found: Found) -> tuple[str, ...]:
        pairs = zip(points.concept.tolist(), found.which, strict=True)
        return tuple(self.prompts.words[concept][one] for concept, one in pairs)

    def _generator(self, i: int, stream: int) -> torch.Generator:
        return seeded(self.options.seed, STREAMS * i + stream)

    def _mine(self, rows: Tensor) -> Tensor:
        return rows[self.accelerator.process_index :: self.accelerator.num_processes]

    def _all(self, mine: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return mine
        gathered = self.accelerator.gather(mine)
        return gathered.view(self.accelerator.num_processes, -1).T.reshape(-1)

    def _reduced(self, value: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return value
        return self.accelerator.reduce(value.to(self.accelerator.device), "mean")

    def _unsynchronised(self, wanted: bool) -> Any:
        return self.accelerator.no_sync(self.networks.trained) if wanted else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        return {
            "trained": {name: weight.detach().clone() for name, weight in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "search": None if self.search is None else self.search.state_dict(),
            "drawn": self.drawn,
            "bank": None if self.bank is None else self.bank.state(),
            "passes": self.networks.counter.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, weight in self.trained.items():
                weight.copy_(state["trained"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:  # of float16, whose gradients are scaled by what the steps before bore
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.search is not None:
            self.search.load_state_dict(state["search"])
        self.drawn, self._probes = state["drawn"], {}
        if state["bank"] is not None:
            self.bank = Points(**{name: one.to(self.sampler.device) for name, one in state["bank"].items()})
            self.clean = self.bank.z if self.options.loss.on_pictures else None
        self.networks.counter.load_state_dict(state["passes"])


def _check_finite(loss: Tensor, i: int) -> None:
    if not torch.isfinite(loss):
        raise EditkitError(
            f"the loss is {float(loss.detach())} at step {i}; the last checkpoint is kept: lower --rate, "
            "or use --mixed-precision no"
        )
