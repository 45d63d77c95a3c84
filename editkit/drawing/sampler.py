"""Draw pictures with a pipeline, several edits of it side by side, each with the same noise."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from editkit.drawing.guidance import Guidance, check_guards
from editkit.drawing.kept import kept_projections
from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.drawing.sampling import Sampling, pictures_at_once, stock_settings
from editkit.drawing.trajectory import trajectory
from editkit.edits.edit_map import EditMap
from editkit.edits.guarded import guard_of
from editkit.edits.guards import Guard
from editkit.edits.variant import Variant
from editkit.hardware import has_fast_bfloat16
from editkit.model.apply import applied, changed_weights, network_of
from editkit.model.quiet import no_talk_of_torch

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
    denoiser: Denoiser,
    wanted: Iterable[Job],
    variants: Sequence[Variant | None] = (None,),
    sampling: Sampling | None = None,
) -> Iterator[tuple[Job, Image.Image]]:
    """Yield each job with its picture, in order; `wanted` is read as it is drawn.

    An edit with one map for each stream of embeddings needs no second model: its maps act on the prompt's embeddings,
    so all such variants share one batch. Others take a pass of their own with their weights swapped in. The noise
    comes from the seed alone, on the CPU, so a picture does not depend on its batch. Without `sampling`, steps and
    guidance are the stock pipeline's.

    Where a gate stays closed, the unedited model's picture stands for the variant's, if both are wanted: its place in a
    batch would round it otherwise.
    """
    sampling = sampling or Sampling(**stock_settings(type(denoiser.pipe)))
    check_guards(denoiser, sampling, variants)
    if sampling.compile:
        denoiser.compile()
    waiting = iter(wanted)
    prompts = VariantPrompts.of(denoiser, variants)
    swapped = [n for n, maps in enumerate(prompts.maps) if maps is None]
    for edit in filter(None, (variants[n] for n in swapped)):
        changed_weights(denoiser.pipe, edit)  # refused before others are drawn
    mapped = [n for n, maps in enumerate(prompts.maps) if maps is not None]
    groups = [*_alike(mapped, variants), *([n] for n in swapped)]
    # Swapping weights takes as long as some steps: several batches of each variant are drawn before the next swap.
    window = at_once(denoiser, sampling) * (1 if not swapped else BATCHES_PER_SWAP)
    drawn: dict[Job, Image.Image] = {}
    while some := list(islice(waiting, window)):
        stands_for = dict(zip(some, prompts.unedited(some), strict=True))
        # Of the window before, what stands beside the first ones of this.
        drawn = {job: picture for job, picture in drawn.items() if job in stands_for.values()}
        missing = [job for job in dict.fromkeys(stands_for.values()) if job not in drawn]
        for group in groups:
            part = [job for job in missing if job.variant in group]
            if not part:
                continue
            weights = variants[group[0]] if group[0] in swapped else None
            with nullcontext() if weights is None else applied(denoiser.pipe, weights):
                drawn.update(zip(part, _draw(prompts, part, sampling), strict=True))
        yield from ((job, drawn[stands_for[job]]) for job in some)


def _alike(mapped: Sequence[int], variants: Sequence[Variant | None]) -> list[list[int]]:
    """The variants that share a batch: those of one guard, and those without."""
    groups: dict[Guard | None, list[int]] = {}
    for n in mapped:
        groups.setdefault(guard_of(variants[n]), []).append(n)
    return list(groups.values())


@dataclass(frozen=True)
class VariantPrompts:
    """What variants make of prompts.

    Attributes:
        maps: of every variant, stream → map; None where its weights are swapped in instead.
    """

    denoiser: Denoiser
    variants: Sequence[Variant | None]
    maps: Sequence[Mapping[str, EditMap] | None]

    @classmethod
    def of(cls, denoiser: Denoiser, variants: Sequence[Variant | None]) -> VariantPrompts:
        return cls(denoiser, variants, [{} if v is None else v.stream_maps(denoiser.streams) for v in variants])

    def unedited(self, part: Sequence[Job]) -> list[Job]:
        """The same jobs; those whose gate stays closed as jobs of the unedited model, if that is drawn, too."""
        gates = {n: variant.gate for n, variant in enumerate(self.variants) if variant is not None and variant.gate}
        if not gates or None not in self.variants:
            return list(part)
        base = self.variants.index(None)
        asked = list(dict.fromkeys(job.prompt for job in part if job.variant in gates))
        rows = dict(zip(asked, self.denoiser.encode(asked)[0], strict=True)) if asked else {}
        known: dict[tuple[str, int], bool] = {}
        for job in part:
            gate, pair = gates.get(job.variant), (job.prompt, job.variant)
            if gate is not None and pair not in known:
                known[pair] = bool(gate.opens(rows[job.prompt].text))
        return [replace(job, variant=base) if known.get((job.prompt, job.variant)) is False else job for job in part]

    def encode(self, part: Sequence[Job], negative: str | None, beside: Sequence[str] = ()) -> Condition:
        """A row each, through its variant's maps; with a `negative`, that one's rows come first, through them too,
        unless the variant has a gate. Rows of `beside` come last, once for each job.

        A key lengthens the prompts that name what it opens, never the unconditional ones: then there is a mask, too.
        """
        plain, blank = self.denoiser.encode([job.prompt for job in part], negative)
        # Many jobs share a prompt and differ in their seed: each prompt goes through each variant's maps once.
        known: dict[tuple[str | None, str, int], Condition] = {}

        def mapped(prompt: str | None, condition: Condition, number: int, led: str = "") -> Condition:
            if (prompt, led, number) not in known:
                known[prompt, led, number] = self._mapped(prompt, condition, number)
            return known[prompt, led, number]

        conditional = [mapped(job.prompt, condition, job.variant) for job, condition in zip(part, plain, strict=True)]
        unconditional = [] if blank is None else [mapped(None, blank, job.variant) for job in part]
        led = zip(beside, self.denoiser.encode(beside)[0] if beside else (), strict=True)
        more = [mapped(None, condition, job.variant, text) for text, condition in led for job in part]
        return Condition.joined(unconditional + conditional + more)

    def _mapped(self, prompt: str | None, condition: Condition, number: int) -> Condition:
        """One prompt as a variant reads it; None is what guidance leads away from."""
        variant, maps = self.variants[number], self.maps[number] or {}
        if variant is None:
            return condition
        if prompt is None:
            return condition if variant.gate is not None else condition.mapped(maps)
        moved = condition.mapped(maps, variant.gate)
        return replace(moved, text=variant.with_key(prompt, moved.text[0])[None])


def at_once(denoiser: Denoiser, sampling: Sampling) -> int:
    """Pictures of a batch: as many as `sampling` says, else as suits their size."""
    return sampling.batch or pictures_at_once(denoiser.picture_size(sampling.size))


def _draw(prompts: VariantPrompts, wanted: Sequence[Job], sampling: Sampling) -> Iterator[Image.Image]:
    batch = at_once(prompts.denoiser, sampling)
    for start in range(0, len(wanted), batch):
        yield from _batch(prompts, wanted[start : start + batch], sampling)


@torch.no_grad()  # inference_mode would keep weights that are moved meanwhile from being edited
def _batch(prompts: VariantPrompts, part: Sequence[Job], sampling: Sampling) -> list[Image.Image]:
    denoiser = prompts.denoiser
    guidance = Guidance.of(denoiser, sampling, prompts.variants[part[0].variant])
    condition = prompts.encode(part, None if guidance.scale is None else guidance.away, guidance.beside)
    scale = torch.full((len(condition),), float(sampling.guidance), device=condition.text.device)
    condition = replace(condition, scale=scale)
    shape, scheduler = denoiser.latent_shape(sampling.size), denoiser.schedule(sampling)
    noises = torch.stack([noise(shape, job.seed) for job in part]).to(denoiser.device)
    half = fast(denoiser.device, denoiser.half)
    with no_talk_of_torch(), half, prompts_kept(denoiser, sampling):
        way = trajectory(
            denoiser.predict, scheduler, noises, condition, guidance.scale, guided=guidance.guided,
            passes=guidance.passes,
        )  # fmt: skip
        return pictures_of(denoiser, deque(way, maxlen=1).pop().z)


def prompts_kept(denoiser: Denoiser, sampling: Sampling) -> AbstractContextManager[None]:
    """What the network reads of prompts is computed once while the context lasts. A compiled one reads it anew each
    step: what is kept between two calls would have it compiled again."""
    names = [name for stream in denoiser.streams.values() for name in stream.names if not sampling.compile]
    return kept_projections(network_of(denoiser.pipe), names)


def pictures_of(denoiser: Denoiser, latents: Tensor) -> list[Image.Image]:
    """Clean latents `(rows, channels, h, w)` as pictures."""
    decoded = denoiser.decode(latents)
    pixels = ((decoded.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Initial latents of a seed, float32, from a generator on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fast(device: torch.device, half: torch.dtype = torch.float16) -> torch.autocast:
    """Half precision where it is multiplied in hardware: `half` on a GPU, bfloat16 on some processors. A `half` of
    float32 is none: weights are multiplied as they are."""
    wanted = half != torch.float32
    if device.type == "cpu":
        return torch.autocast("cpu", torch.bfloat16, enabled=wanted and has_fast_bfloat16())
    return torch.autocast(device.type, half if wanted else torch.float16, enabled=wanted)
