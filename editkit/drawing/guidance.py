"""How a batch is guided: by the model's pipeline, or by a variant's guard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampling import Sampling
from editkit.edits.guarded import Guarded, guard_of
from editkit.edits.guards import Guided
from editkit.edits.variant import Variant
from editkit.errors import EditkitError


@dataclass(frozen=True)
class Guidance:
    """Of one batch, whose variants have one guard or none.

    Attributes:
        scale: of classifier-free guidance; None draws without.
        away: the prompt that it leads away from.
        beside: further prompts that the network is asked for at each step.
        guided: what the predictions of all are drawn by.
    """

    scale: float | None
    away: str
    beside: tuple[str, ...]
    guided: Guided

    @classmethod
    def of(cls, denoiser: Denoiser, sampling: Sampling, variant: Variant | None) -> Guidance:
        """For a new batch: a guard may remember what came before in it.

        Raises:
            EditkitError: a guard where nothing guides.
        """
        check_guards(denoiser, sampling, [variant])
        scale, guard = denoiser.away(sampling), guard_of(variant)
        if guard is None:
            return cls(scale, sampling.negative, (), denoiser.guided)
        away = sampling.negative if guard.away is None else guard.away
        return cls(scale, away, guard.beside, guard.begin(denoiser.guided, sampling.steps))

    @property
    def passes(self) -> int:
        """Prompts of each picture, where it is guided."""
        return 2 + len(self.beside)


def check_guards(denoiser: Denoiser, sampling: Sampling, variants: Sequence[Variant | None]) -> None:
    """Refuse a guard where nothing guides.

    Raises:
        EditkitError: the picture is drawn without classifier-free guidance.
    """
    guarded = next((variant for variant in variants if isinstance(variant, Guarded)), None)
    if guarded is not None and denoiser.away(sampling) is None:
        raise EditkitError(
            f"--guard {guarded.text}: leads away by classifier-free guidance, and this picture is drawn without; give "
            "a --guidance above 1, of a distilled model --true-cfg"
        )
