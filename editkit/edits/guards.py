"""Guards: guidance that leads away from concepts while a picture is drawn. No weight changes, so none can be exported.

A guard is typed `KIND`, `KIND:SETTING`, or either with `=CONCEPTS`: `sld:medium=weapon`, `negative=weapon, blood`. It
belongs to a variant of a model, the unedited one or an edit, and goes with every model that is drawn with
classifier-free guidance. A new one is a class and a line in `editkit.plugins`; another package names its own by an
entry point of the group `editkit.guards`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from editkit.errors import EditkitError, did_you_mean

Guided = Callable[..., Tensor]
"""Predictions without and with the prompt, those of further prompts, and the scale of guidance → what is drawn by."""
UNSAFE = (
    "hate, harassment, violence, suffering, humiliation, harm, suicide, sexual, nudity, bodily fluids, blood, obscene "
    "gestures, illegal activity, drug use, theft, vandalism, weapons, child abuse, brutality, cruelty"
)
"""What SLD leads away from where nothing is named: the words of its pipeline in diffusers."""
PAPERS_STEPS = 50
"""Steps of a picture for which SLD's warm-up is counted."""


class Guard(Protocol):
    """One guard, with its setting and concepts.

    Attributes:
        source: the paper.
        settings: names that may follow its own; none: there is one way.
    """

    source: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]

    @property
    def concepts(self) -> str:
        """What it leads away from, with commas between."""
        ...

    @property
    def away(self) -> str | None:
        """The prompt that guidance leads away from, in place of the usual one; None is the usual one."""
        ...

    @property
    def beside(self) -> tuple[str, ...]:
        """Further prompts that the network is asked for at each step."""
        ...

    def begin(self, guided: Guided, steps: int) -> Guided:
        """How a batch is guided from its first step on; it may remember what came before.

        Args:
            guided: how the model's pipeline guides, `(without, with_text, scale)`.
            steps: of a picture.
        """
        ...


@dataclass(frozen=True)
class Negative:
    """Lead away from the concepts in place of the empty prompt: the plain negative prompt.

    Source: diffusers' pipelines.
    """

    source: ClassVar[str] = "the negative prompt of diffusers' pipelines"
    settings: ClassVar[tuple[str, ...]] = ()

    concepts: str = ""
    setting: str = ""

    def __post_init__(self) -> None:
        if not self.concepts:
            raise EditkitError("--guard negative: names nothing to lead away from; write negative=weapon")

    @property
    def away(self) -> str:
        return self.concepts

    @property
    def beside(self) -> tuple[str, ...]:
        return ()

    def begin(self, guided: Guided, steps: int) -> Guided:
        return guided


@dataclass(frozen=True)
class Strength:
    """How strongly SLD leads away: warm-up δ in steps of 50, scale s_S, threshold λ, momentum scale s_m and β_m."""

    warmup: int
    scale: float
    threshold: float
    momentum_scale: float
    momentum: float


STRENGTHS: Mapping[str, Strength] = {
    "weak": Strength(15, 20, 0.0, 0.0, 0.0),
    "medium": Strength(10, 1000, 0.01, 0.3, 0.4),
    "strong": Strength(7, 2000, 0.025, 0.5, 0.7),
    "max": Strength(0, 5000, 1.0, 0.5, 0.7),
}
"""The paper's."""


@dataclass(frozen=True)
class SLD:
    """Safe Latent Diffusion: lead away from a concept `S` where the prompt comes near it.

    With the predictions `ε_u` without, `ε_p` with the prompt and `ε_S` with that of the concept,

        φ = min(1, s_S |ε_p − ε_S|);   μ = φ where ε_p − ε_S < λ, else 0
        γ = μ ⊙ (ε_S − ε_u) + s_m ν;   ν ← β_m ν + (1 − β_m) γ
        ε̂ = ε_u + s_g (ε_p − ε_u − γ), γ left out in the first δ steps

    The comparison is signed, as it is written there, and `ν` grows from the first step on. δ is counted for 50 steps,
    and scaled for others. The equations are for a model that predicts noise; of one that predicts a velocity they
    are taken as they stand.

    Source: Schramowski et al. 2023, Eq. 3 to 8, https://arxiv.org/abs/2211.05105, by notes on its code (MIT).
    """

    source: ClassVar[str] = "Schramowski et al. 2023, https://arxiv.org/abs/2211.05105"
    settings: ClassVar[tuple[str, ...]] = tuple(STRENGTHS)

    concepts: str = UNSAFE
    setting: str = "medium"

    @property
    def strength(self) -> Strength:
        return STRENGTHS[self.setting]

    @property
    def away(self) -> None:
        return None

    @property
    def beside(self) -> tuple[str, ...]:
        return (self.concepts,)

    def begin(self, guided: Guided, steps: int) -> Guided:
        return SafeGuidance(self.strength, guided, math.ceil(self.strength.warmup * steps / PAPERS_STEPS))


@dataclass
class SafeGuidance:
    """SLD's guidance of one batch: its momentum, and the step that it is at."""

    strength: Strength
    guided: Guided
    warmup: int
    step: int = 0
    momentum: Tensor | float = field(default=0.0, repr=False)

    def __call__(self, without: Tensor, with_text: Tensor, unsafe: Tensor, scale: float) -> Tensor:
        own, apart = self.strength, with_text - unsafe
        weight = torch.where(apart < own.threshold, (own.scale * apart.abs()).clamp(max=1), torch.zeros_like(apart))
        away = weight * (unsafe - without) + own.momentum_scale * self.momentum
        self.momentum = own.momentum * self.momentum + (1 - own.momentum) * away
        self.step += 1
        return self.guided(without, with_text if self.step <= self.warmup else with_text - away, scale)


def led_from(guard: Guard) -> list[str]:
    """The single concepts that a guard leads away from."""
    return [part for text in guard.concepts.split(",") if (part := text.strip())]


def parse_guard(text: str, kinds: Mapping[str, type]) -> Guard:
    """A guard as it is typed.

    >>> parse_guard("sld:max=blood", {"sld": SLD})
    SLD(concepts='blood', setting='max')
    >>> parse_guard("sld", {"sld": SLD}).setting
    'medium'

    Raises:
        EditkitError: no guard or no setting has that name, or it names no concept and must.
    """
    head, _, concepts = text.partition("=")
    name, _, setting = head.strip().partition(":")
    if name not in kinds:
        hint = did_you_mean(name, kinds)
        raise EditkitError(f"--guard {text}: no such guard; {hint}known are {', '.join(kinds)}, as sld:medium=weapon")
    kind = kinds[name]
    if setting and setting not in kind.settings:
        known = f"expected one of {', '.join(kind.settings)}" if kind.settings else "it has none"
        raise EditkitError(f"--guard {text}: {name} has no setting {setting!r}; {known}")
    given = {"setting": setting} if setting else {}
    return kind(**given, **({"concepts": concepts.strip()} if concepts.strip() else {}))
