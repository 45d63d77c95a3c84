"""Draw pictures with a pipeline, several edits of it side by side, each with the same noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from editkit.drawing.sampling import Sampling, latent_shape, scheduler_for
from editkit.edits.edit import Edit
from editkit.edits.key import Unlocked, padded
from editkit.edits.tuned import Tuned
from editkit.hardware import has_fast_bfloat16
from editkit.model.apply import applied
from editkit.model.prompts import prompt_states

Variant = Edit | Tuned | None
"""None is the unedited model."""

BATCHES_PER_SWAP = 16
"""Batches drawn before other weights are swapped in: their pictures wait in memory."""


@dataclass(frozen=True)
class Job:
    """One picture to draw."""

    prompt: str
    seed: int
    variant: int = 0


def jobs(prompts: Sequence[str], seeds: Sequence[int], variants: int = 1) -> list[Job]:
    """Every prompt with every seed in every variant; the variants of one picture stand side by side."""
    return [Job(prompt, seed, variant) for prompt in prompts for seed in seeds for variant in range(variants)]


def draw(
    pipe: Any, wanted: Iterable[Job], variants: Sequence[Variant] = (None,), sampling: Sampling | None = None
) -> Iterator[tuple[Job, Image.Image]]:
    """Yield each job with its picture, in order; `wanted` is read as it is drawn.

    A global edit needs no second model: its map acts on the prompt's embedding, so all variants share one batch.
    Other edits take a pass of their own with their weights swapped in. The noise comes from the seed alone, on the
    CPU, so a picture does not depend on its batch.
    """
    sampling = sampling or Sampling()
    waiting = iter(wanted)
    swapped = [n for n, variant in enumerate(variants) if variant is not None and not variant.is_global]
    window = sampling.batch * (1 if not swapped else BATCHES_PER_SWAP)
    while some := list(islice(waiting, window)):
        drawn: dict[int, Image.Image] = {}
        for group in ([n for n in range(len(variants)) if n not in swapped], *([n] for n in swapped)):
            part = [number for number, job in enumerate(some) if job.variant in group]
            if not part:
                continue
            weights = variants[group[0]] if group[0] in swapped else None
            mapped = [one if isinstance(one, Unlocked) else None for one in variants] if weights else variants
            with applied(pipe, weights or Edit({})):
                pictures = _draw(pipe, [some[number] for number in part], mapped, sampling)
                drawn.update(zip(part, pictures, strict=True))
        yield from ((job, drawn[number]) for number, job in enumerate(some))


def _draw(pipe: Any, wanted: Sequence[Job], variants: Sequence[Variant], sampling: Sampling) -> Iterator[Image.Image]:
    for start in range(0, len(wanted), sampling.batch):
        yield from _batch(pipe, wanted[start : start + sampling.batch], variants, sampling)


@torch.inference_mode()
def _batch(pipe: Any, part: Sequence[Job], variants: Sequence[Variant], sampling: Sampling) -> list[Image.Image]:
    guided = sampling.guidance != 1
    text, mask = embed(pipe, part, variants, sampling.negative if guided else None)
    shape = latent_shape(pipe, sampling.size)
    scheduler = scheduler_for(pipe, sampling)
    latents = torch.stack([noise(shape, job.seed) for job in part]).to(pipe.device) * scheduler.init_noise_sigma
    with _fast(pipe):
        for t in scheduler.timesteps:
            twice = torch.cat([latents, latents]) if guided else latents
            given = scheduler.scale_model_input(twice, t)
            predicted = pipe.unet(given, t, text, encoder_attention_mask=mask).sample.float()
            if guided:
                without, with_text = predicted.chunk(2)
                predicted = without + sampling.guidance * (with_text - without)
            latents = scheduler.step(predicted, t, latents).prev_sample
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    pixels = ((decoded.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(one) for one in pixels]


def embed(
    pipe: Any, part: Sequence[Job], variants: Sequence[Variant], negative: str | None
) -> tuple[Tensor, Tensor | None]:
    """Prompt embeddings of a batch, each through its variant's map; the unconditional rows first, through it too.

    A key lengthens the prompts that name what it opens, never the unconditional ones: then there is a mask, too.
    """
    texts = list(dict.fromkeys([job.prompt for job in part] + ([] if negative is None else [negative])))
    known = dict(zip(texts, prompt_states(pipe, texts), strict=True))
    mapped: dict[tuple[str, int], Tensor] = {}

    def rows(text: str, number: int) -> Tensor:
        if (text, number) not in mapped:
            edit = variants[number]
            plain = known[text]
            mapped[text, number] = plain if not isinstance(edit, Edit) else edit.map.embeddings(plain.cpu()).to(plain)
        return mapped[text, number]

    def with_key(text: str, number: int) -> Tensor:
        edit = variants[number]
        return edit.key.append(text, rows(text, number)) if isinstance(edit, Unlocked) else rows(text, number)

    conditional = [with_key(job.prompt, job.variant) for job in part]
    unconditional = [] if negative is None else [rows(negative, job.variant) for job in part]
    return padded([one[None] for one in unconditional + conditional])


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Initial latents of a seed, float32, from a generator on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _fast(pipe: Any):
    """Half precision where it is multiplied in hardware: float16 on a GPU, bfloat16 on some processors."""
    if pipe.device.type == "cpu":
        return torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16())
    return torch.autocast(pipe.device.type, torch.float16)
