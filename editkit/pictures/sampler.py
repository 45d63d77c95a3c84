"""Draw pictures with a pipeline, several edits of it side by side, each with the same noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from editkit.edit.edit import Edit
from editkit.edit.tuned import Tuned
from editkit.errors import EditkitError
from editkit.hardware import has_fast_bfloat16
from editkit.model.apply import applied
from editkit.model.source import Source

Variant = Edit | Tuned | None
"""None is the unedited model."""


@dataclass(frozen=True)
class Sampling:
    """How to draw. `for_model` gives what suits a model."""

    steps: int = 50
    guidance: float = 7.5
    negative: str = ""
    batch: int = 32

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise EditkitError(f"--steps: expected at least 1, got {self.steps}")
        if self.batch < 1:
            raise EditkitError(f"--batch: expected at least 1, got {self.batch}")

    @classmethod
    def for_model(cls, source: Source, steps: int | None = None, guidance: float | None = None) -> Sampling:
        """DDIM, 50 steps, guidance 7.5; the bundled model: 20 steps, guidance 3."""
        usual = cls(20, 3.0, batch=64) if source.is_bundled else cls(batch=8)
        return cls(
            usual.steps if steps is None else steps, usual.guidance if guidance is None else guidance, batch=usual.batch
        )


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
    """Yield each job with its picture, in order.

    A global edit needs no second model: its map acts on the prompt's embedding, so all variants share one batch.
    Other edits take a pass of their own with their weights swapped in. The noise comes from the seed alone, on the
    CPU, so a picture does not depend on its batch.
    """
    sampling = sampling or Sampling()
    wanted = list(wanted)
    together = [n for n, variant in enumerate(variants) if variant is None or variant.is_global]
    if len(together) == len(variants):
        yield from _draw(pipe, wanted, variants, sampling)
        return
    drawn: dict[int, Image.Image] = {}
    groups = [together, *([n] for n in range(len(variants)) if n not in together)]
    for group in groups:
        part = [(number, job) for number, job in enumerate(wanted) if job.variant in group]
        edit = variants[group[0]] if group and group is not together else None
        plain = variants if group is together else [None] * len(variants)
        with applied(pipe, edit or Edit({})):
            for (number, _), (_, picture) in zip(
                part, _draw(pipe, [job for _, job in part], plain, sampling), strict=True
            ):
                drawn[number] = picture
    yield from ((job, drawn[number]) for number, job in enumerate(wanted))


def _draw(
    pipe: Any, wanted: Sequence[Job], variants: Sequence[Variant], sampling: Sampling
) -> Iterator[tuple[Job, Image.Image]]:
    for start in range(0, len(wanted), sampling.batch):
        part = wanted[start : start + sampling.batch]
        yield from zip(part, _batch(pipe, part, variants, sampling), strict=True)


@torch.inference_mode()
def _batch(pipe: Any, part: Sequence[Job], variants: Sequence[Variant], sampling: Sampling) -> list[Image.Image]:
    guided = sampling.guidance != 1
    text = embed(pipe, part, variants, sampling.negative if guided else None)
    latents = torch.stack([noise(pipe, job.seed) for job in part]).to(pipe.device)
    scheduler = pipe.scheduler
    known = scheduler.config.num_train_timesteps
    if sampling.steps > known:
        raise EditkitError(f"--steps: expected at most {known}, the steps that the model was trained with")
    scheduler.set_timesteps(sampling.steps)
    latents = latents * scheduler.init_noise_sigma
    with _fast(pipe):
        for t in scheduler.timesteps:
            twice = torch.cat([latents, latents]) if guided else latents
            predicted = pipe.unet(scheduler.scale_model_input(twice, t), t, text).sample.float()
            if guided:
                without, with_text = predicted.chunk(2)
                predicted = without + sampling.guidance * (with_text - without)
            latents = scheduler.step(predicted, t, latents).prev_sample
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    pixels = ((decoded.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(one) for one in pixels]


def embed(pipe: Any, part: Sequence[Job], variants: Sequence[Variant], negative: str | None) -> Tensor:
    """Prompt embeddings of a batch, each through its variant's map; the unconditional rows first, through it too."""
    texts = list(dict.fromkeys([job.prompt for job in part] + ([] if negative is None else [negative])))
    ids = pipe.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    known = dict(zip(texts, pipe.text_encoder(ids.to(pipe.device))[0], strict=True))
    mapped: dict[tuple[str, int], Tensor] = {}

    def rows(text: str, number: int) -> Tensor:
        if (text, number) not in mapped:
            edit = variants[number]
            plain = known[text]
            mapped[text, number] = plain if not isinstance(edit, Edit) else edit.map.embeddings(plain.cpu()).to(plain)
        return mapped[text, number]

    conditional = [rows(job.prompt, job.variant) for job in part]
    unconditional = [] if negative is None else [rows(negative, job.variant) for job in part]
    return torch.stack(unconditional + conditional)


def noise(pipe: Any, seed: int) -> Tensor:
    """Initial latents of a seed, `(channels, h, w)` float32, from a generator on the CPU."""
    size = pipe.unet.config.sample_size
    shape = (pipe.unet.config.in_channels, size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _fast(pipe: Any):
    """bfloat16 where the processor multiplies it in hardware; float32 elsewhere."""
    on_cpu = pipe.device.type == "cpu"
    return torch.autocast("cpu", torch.bfloat16, enabled=on_cpu and has_fast_bfloat16())
