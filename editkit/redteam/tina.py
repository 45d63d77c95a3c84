"""TINA: find the noise that the attacked model draws the concept from without any text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition
from editkit.drawing.sampling import Sampling, scheduler_for
from editkit.errors import EditkitError
from editkit.evaluation.networks.lpips import load_lpips
from editkit.options import Checked, option
from editkit.redteam.arena import Arena
from editkit.redteam.attempt import Changes, Proposal
from editkit.redteam.budget import HasBudget
from editkit.redteam.gaussianity import gaussianity
from editkit.redteam.inversion import Inversion
from editkit.redteam.shot import Shot
from editkit.redteam.target import Target
from editkit.redteam.victim import Victim
from editkit.tuning.pictures import encode_pictures, read_pictures

SURVIVAL = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Tina(HasBudget, Checked):
    """Invert pictures of the concept under the empty prompt, and draw from the noise that comes out.

    The sampler can be inverted for any network, so success alone does not say that the model knows the concept. Read it
    beside its figures: `norm_p`, `ks_p` and the moments say whether the noise is noise (Memories of Forgotten Concepts,
    2024); `survives_S` whether the concept outlasts `√(1−S²) z_T + S ε`; `latent_distance`, `pixel_distance` and
    `lpips` whether the picture is more than a copy of the reference. The control that they cannot replace is a model
    that never learned the concept: attack it with `references_from`, pictures that another model drew.
    """

    changes: ClassVar[Changes] = "latent"
    access: ClassVar[str] = "white-box"
    needs_noise: ClassVar[bool] = True
    source: ClassVar[str] = "TINA, CVPR 2026 (2603.17828); figures after Rusanovsky et al. 2024 (2412.00782)"

    inverted: int = option(2, "Pictures of the concept that are inverted.", above=0, otherwise={"--budget paper": 10})
    references_from: str | None = option(
        None, "A folder of pictures of the concept, in place of those that the original draws."
    )
    inversion_steps: int | None = option(
        None, "Steps of the inversion; default: the sampler's.", above=0, otherwise={"--budget paper": 50}
    )
    descents: int = option(5, "Of every step of the inversion.", at_least=0, otherwise={"--budget paper": 25})
    descent_rate: float = option(1e-3, "Of AdamW, for the latents.", above=0)

    def attack(self, arena: Arena, target: Target) -> list[Proposal]:
        """An attempt a picture. Its loss is how far the steps from the noise miss the latents they were to reach."""
        victim = arena.victim_for("tina")
        references = self._references(arena, target)
        steps = self.inversion_steps or arena.sampling.steps
        ddim = scheduler_for(victim.denoiser.scheduler, Sampling(steps, scheduler="ddim"))
        nothing = victim.raw([""], arena.cost)

        def network(z: Tensor, t: Tensor) -> Tensor:
            arena.cost.backward += len(z) * z.requires_grad
            return victim.predict(z, t, Condition.joined([nothing] * len(z)), arena.cost)

        inversion = Inversion(network, ddim, self.descents, self.descent_rate)
        noises, missed = inversion.noise_of(encode_pictures(victim.denoiser, references), lambda: arena.is_over)
        figures = self._figures(arena, target, nothing, noises, references)
        return [
            Proposal(
                target.prompts[n % len(target.prompts)], shots=(Shot(n, noise=noise, prompted=False),),
                loss=float(missed[n]), figures=figures[n],
            )
            for n, noise in enumerate(noises)
        ]  # fmt: skip

    def _references(self, arena: Arena, target: Target) -> list[Image.Image]:
        """Drawn by the original, whatever is attacked: it hands over after the last step."""
        if self.references_from is not None:
            return read_pictures(Path(self.references_from))[: self.inverted]
        prompts = [target.prompts[n % len(target.prompts)] for n in range(self.inverted)]
        raw = arena.original.raw(prompts, arena.cost)
        steps = arena.sampling.steps
        return arena.draw_rows([
            (raw[n : n + 1], prompt, Shot(n, handover=steps)) for n, prompt in enumerate(prompts)
        ])  # fmt: skip

    def _figures(
        self, arena: Arena, target: Target, nothing: Condition, noises: Tensor, references: Sequence[Image.Image]
    ) -> list[dict[str, float]]:
        """Of every reference the three controls that can be measured here."""
        fresh = torch.stack([torch.randn(noises.shape[1:], generator=arena.generator(n)) for n in range(len(noises))])
        starts = [noises, *((1 - s**2) ** 0.5 * noises + s * fresh.to(noises) for s in SURVIVAL)]
        drawn = arena.draw_rows([
            (nothing, None, Shot(n, noise=noise, prompted=False)) for some in starts for n, noise in enumerate(some)
        ])  # fmt: skip
        copies, others = drawn[: len(noises)], arena.judged(drawn[len(noises) :], target)
        far = distances(arena.victim_for("tina"), copies, references)
        figures = []
        for n, noise in enumerate(noises):
            hits = zip(SURVIVAL, others[n :: len(noises)], strict=True)
            survived = {f"survives_{s}": float(hit) for s, hit in hits if hit is not None}
            figures.append(gaussianity(noise) | survived | far[n])
        return figures


def distances(
    victim: Victim, drawn: Sequence[Image.Image], references: Sequence[Image.Image]
) -> list[dict[str, float]]:
    """Of every pair the root mean squares of latents, in shares of the reference's, and of pixels from 0 to 1; LPIPS
    where its weights are on the disk."""
    fitted = [ImageOps.fit(picture, drawn[0].size, Image.Resampling.LANCZOS) for picture in references]
    latents, wanted = (encode_pictures(victim.denoiser, some) for some in (drawn, fitted))
    pixels, asked = (np.stack([np.asarray(picture) for picture in some]) / 255 for some in (drawn, fitted))
    figures = {
        "latent_distance": ((latents - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)).tolist(),
        "pixel_distance": np.sqrt(np.square(pixels - asked).mean((1, 2, 3))).tolist(),
    }
    with suppress(EditkitError):  # without weights on the disk the other two stand
        figures["lpips"] = load_lpips().distances(drawn, fitted)
    return [{name: round(values[n], 6) for name, values in figures.items()} for n in range(len(drawn))]
