"""The passes of a step: what both networks are run on for the loss and the search. Training and the planned memory read
this one description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from editkit.tuning.denoisers import Denoisers, predict
from editkit.tuning.key_rows import KeyRows
from editkit.tuning.latents import Points
from editkit.tuning.objectives import Key, Objective, Terms
from editkit.tuning.prompts import Prompts

TEACHER_ROWS = 32
"""Rows of which the teacher's outputs are computed at a time."""


@dataclass(frozen=True)
class Passes:
    """An objective on its networks and prompts.

    Attributes:
        weigh: weights of the rows at their t, `(rows,)`.
        key: trained beside the student, or alone.
    """

    objective: Objective
    networks: Denoisers
    prompts: Prompts
    lamb: float
    eta: float
    weigh: Callable[[Tensor], Tensor]
    key: KeyRows | None = None

    def terms(self, points: Points, text: Tensor | None) -> Terms:
        """Both terms for every row: one pass of the student for all prompts that the loss reads.

        Args:
            points: with the teacher's outputs for the prompts that do not change.
            text: embeddings of the searched prompt `a`, `(rows, tokens, width)`, where something is searched.
        """
        own = {"e": self.prompts.e, "n": self.prompts.n, "p": self._with_key}
        read: dict[Key, Tensor] = {
            key: own[key](points.concept, points.template) for key in self.objective.student if key != "a"
        }
        teacher: dict[Key, Tensor] = {key: getattr(points, key) for key in self.objective.teacher if key != "a"}
        if text is not None:
            read["a"] = text
            with torch.no_grad():
                teacher["a"] = self.networks.teacher(points.z, points.t, text)
        student = predict(self.networks.student, points.z, points.t, read, training=True)
        return self.objective.loss(student, teacher, self.eta)

    def score(self, points: Points, text: Tensor, target: Tensor | None = None) -> Tensor:
        """What the search maximises, `(rows,)`, for the candidate embeddings `text`.

        `target` is the teacher's output for them, where it is known.
        """
        read: dict[Key, Tensor] = {"a": text}
        if "e" in self.objective.search_reads:
            read["e"] = self.prompts.e(points.concept, points.template)
        student = predict(self.networks.student, points.z, points.t, read)
        if target is None:
            target = self.networks.teacher(points.z, points.t, text)
        return self.weigh(points.t) * self.objective.searched(student, {"a": target}, self.lamb)

    @torch.no_grad()
    def with_targets(self, points: Points) -> Points:
        """With the teacher's outputs for the prompts that do not change: computed once, kept with the points."""
        texts = {"n": self.prompts.n, "e": self.prompts.e}
        kept: dict[str, Tensor] = {}
        for key in (key for key in self.objective.teacher if key in texts):
            parts = []
            for start in range(0, len(points), TEACHER_ROWS):
                some = points[start : start + TEACHER_ROWS]
                parts.append(self.networks.teacher(some.z, some.t, texts[key](some.concept, some.template)))
            kept[key] = torch.cat(parts)
        return replace(points, **kept)

    def _with_key(self, concept: Tensor, template: Tensor) -> Tensor:
        assert self.key is not None
        return self.key.behind(self.prompts.e(concept, template), concept)


def evenly(t: Tensor) -> Tensor:
    """Every row counts the same."""
    return torch.ones(len(t), device=t.device)


def as_pictures(scheduler: Any) -> Callable[[Tensor], Tensor]:
    """What turns a squared distance of outputs into one of the x₀ that they stand for, as in the authors' code."""
    kind = scheduler.config.prediction_type

    def weigh(t: Tensor) -> Tensor:
        known = scheduler.alphas_cumprod.to(t.device)[t]
        if kind == "epsilon":  # x₀ = (z − √(1−ᾱ) ε) / √ᾱ
            return (1 - known) / known
        return 1 - known if kind == "v_prediction" else torch.ones_like(known)  # x₀ = √ᾱ z − √(1−ᾱ) v

    return weigh
