"""The passes of a step: what both networks are run on for the loss and the search. Training and the planned memory read
this one description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.tuning.attention import attention_layers, recorded
from editkit.tuning.denoisers import Denoisers, predict
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.latents import Points, Read
from editkit.tuning.levels import Levels
from editkit.tuning.objectives import Key, Objective, Terms
from editkit.tuning.prompts import Prompts

ROWS, SIDE = 32, 64


def rows_at_once(height: int, width: int) -> int:
    """Rows of latents of that size of which the teacher's outputs are computed at a time: `ROWS` of those of SD 1.x.

    >>> rows_at_once(8, 8), rows_at_once(64, 64), rows_at_once(128, 128)
    (32, 32, 8)
    """
    return max(1, min(ROWS, ROWS * SIDE * SIDE // (height * width)))


@dataclass(frozen=True)
class Passes:
    """An objective on its networks and prompts.

    Attributes:
        weigh: weights of the rows at their t, `(rows,)`.
        key: trained beside the student, or alone.
        attends: layers of the student whose attention the loss reads, if it does.
    """

    objective: Objective
    networks: Denoisers
    prompts: Prompts
    lamb: float
    eta: float
    weigh: Callable[[Tensor], Tensor]
    key: KeyRows | None = None
    attends: tuple[str, ...] = ()

    def terms(self, points: Points, searched: Condition | None) -> Terms:
        """Both terms for every row: one pass of the student for all prompts that the loss reads.

        Args:
            points: with the teacher's outputs for the prompts that do not change.
            searched: the prompt `a` of every row, where something is searched.
        """
        own = {"e": self.prompts.e, "n": self.prompts.n, "p": self._with_key}
        read: dict[Key, Condition] = {
            key: own[key](points.concept, points.template) for key in self.objective.student if key != "a"
        }
        teacher: dict[Key, Tensor] = {key: getattr(points, key) for key in self.objective.teacher if key != "a"}
        if searched is not None:
            if "a" in self.objective.student:
                read["a"] = searched
            with torch.no_grad():
                teacher["a"] = self.networks.teacher(points.z, points.t, searched)
        ask, together = self.networks.student, self.networks.reads_masks
        with recorded(self.networks.network, self.attends) as attended:
            student: dict[Key, Tensor] = predict(ask, points.z, points.t, read, together, training=True)
        if self.attends:
            tokens = self.prompts.tokens(points.concept, points.template)
            paid = attended.to(tokens) if points.mask is None else attended.over(tokens, points.mask)
            if self.networks.trained is not self.networks.network:
                # Processes wait for the gradient of all that is trained, of the last layer's values, too: here it is 0.
                paid = paid + 0 * student["e"].flatten(1).sum(1, keepdim=True)
            student["m"] = paid
        return self.objective.loss(student, teacher, self.eta)

    def score(self, points: Points, candidate: Condition, target: Tensor | None = None) -> Tensor:
        """What the search maximises, `(rows,)`, for a candidate of every row.

        `target` is the teacher's output for them, where it is known.
        """
        read: dict[Key, Condition] = {"a": candidate}
        if "e" in self.objective.search_reads:
            read["e"] = self.prompts.e(points.concept, points.template)
        student = predict(self.networks.student, points.z, points.t, read)
        if target is None:
            target = self.networks.teacher(points.z, points.t, candidate)
        return self.weigh(points.t) * self.objective.searched(student, {"a": target}, self.lamb)

    @torch.no_grad()
    def with_targets(self, points: Points) -> Points:
        """With the teacher's outputs for the prompts that do not change: computed once, kept with the points."""
        texts = {"n": self.prompts.n, "e": self.prompts.e, "o": self.prompts.o}
        kept: dict[str, Tensor] = {}
        for key in self.objective.teacher:
            if key in texts:
                kept[key] = self._said(points, texts[key])
            elif key == "s":
                kept[key] = self._mean_of_alike(points)
        return replace(points, **kept)

    def _mean_of_alike(self, points: Points) -> Tensor:
        """Of the teacher's outputs for all that is said for the concept of each row, in the row's template."""
        assert self.prompts.alike is not None
        alike = self.prompts.alike[points.concept]
        total = torch.zeros_like(points.z)
        for other in range(self.prompts.count):
            rows = torch.nonzero(alike[:, other])[:, 0]
            if len(rows):
                asked = replace(points[rows], concept=torch.full_like(rows, other))
                total[rows] += self._said(asked, self.prompts.e)
        return total / alike.sum(1)[:, None, None, None]

    def _said(self, points: Points, read: Read) -> Tensor:
        """By the teacher, so many rows at a time."""
        rows = rows_at_once(*points.z.shape[-2:])
        parts = [points[start : start + rows] for start in range(0, len(points), rows)]
        return torch.cat([self.networks.teacher(some.z, some.t, read(some.concept, some.template)) for some in parts])

    def _with_key(self, concept: Tensor, template: Tensor) -> Condition:
        assert self.key is not None
        return self.key.behind(self.prompts.e(concept, template), concept)


def attended_by(objective: Objective, denoiser: Denoiser) -> tuple[str, ...]:
    """`Passes.attends` of an objective."""
    return attention_layers(denoiser.streams["text"].names) if objective.reads_attention else ()


def evenly(t: Tensor) -> Tensor:
    """Every row counts the same."""
    return torch.ones(len(t), device=t.device)


def as_pictures(scheduler: Any) -> Callable[[Tensor], Tensor]:
    """What turns a squared distance of predictions into one of the x₀ that they stand for, as in the authors' code;
    for a flow, whose velocity they did not train, the same by `editkit.tuning.levels`."""
    return lambda t: Levels.at(scheduler, t).as_pictures
