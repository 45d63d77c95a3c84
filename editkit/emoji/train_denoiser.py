"""Train the bundled model's text encoder and UNet, jointly, on cached latents."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from editkit.emoji.captions import draw_example
from editkit.emoji.catalogue import catalogue, subjects
from editkit.emoji.loop import train, warm_up_flat_down
from editkit.emoji.muon import Muon
from editkit.emoji.parts import new_scheduler, new_text_encoder, new_unet
from editkit.emoji.pictures import Composer
from editkit.seeds import seeded

SHIFTS_PER_PICTURE = 4
EMA = 0.999


@dataclass(frozen=True)
class Latents:
    """`values[subject, background, shift]` are scaled latents; `scale` is the VAE's scaling factor."""

    values: Tensor
    scale: float


@torch.no_grad()
def cache_latents(vae: Any, composer: Composer, path: Path, seed: int = 0) -> Latents:
    """Encode every drawing on every background at a few shifts, `(n, 8, SHIFTS_PER_PICTURE, 16, 8, 8)` float16."""
    if path.exists():
        saved = torch.load(path, weights_only=True)
        return Latents(saved["values"], saved["scale"])
    rows = []
    colours = len(catalogue().backgrounds)
    for which in range(len(composer)):
        b = colours * SHIFTS_PER_PICTURE
        _, _, shifts = composer.random(b, seeded(seed, which))
        backgrounds = torch.arange(colours).repeat_interleave(SHIFTS_PER_PICTURE)
        pictures = composer(torch.full((b,), which), backgrounds, shifts)
        with torch.autocast(composer.device, torch.bfloat16):
            rows.append(vae.encode(pictures).latent_dist.mode().float().cpu())
    values = torch.stack(rows)
    scale = 1 / float(values.std())
    shape = (len(rows), colours, SHIFTS_PER_PICTURE, *values.shape[2:])
    values = (values * scale).half().view(shape)
    torch.save({"values": values, "scale": scale}, path)
    return Latents(values, scale)


class Denoiser(nn.Module):
    """Text encoder and UNet as one module, and the moving average of their weights."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, tokens: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        return self.unet(noisy, t, self.text_encoder(tokens)[0]).sample


def train_denoiser(
    latents: Latents,
    tokenizer: CLIPTokenizer,
    folder: Path,
    steps: int,
    batch: int = 96,
    rate: float = 2e-3,
    device: str = "cpu",
    seed: int = 0,
    name: str = "denoiser",
) -> Denoiser:
    """Returns the averaged model. Resumes from `folder/{name}.pt`."""
    torch.manual_seed(seed)
    model = Denoiser(new_text_encoder(tokenizer), new_unet()).to(device)
    model.unet.set_attn_processor(AttnProcessor())
    model.unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = Denoiser(new_text_encoder(tokenizer), new_unet()).to(device)
    average.load_state_dict(model.state_dict())
    optimizers = _optimizers(model, rate)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: warm_up_flat_down(i, steps, 200, 0.5))
        for optimizer in optimizers
    ]
    scheduler, table = new_scheduler(), _Examples(latents, tokenizer)

    def step(i: int) -> Tensor:
        clean, tokens = table.batch(batch, seed, i)
        generator = seeded(seed, i)
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.randint(1000, (batch,), generator=generator)
        noisy = scheduler.add_noise(clean, noise, t)  # pyright: ignore[reportArgumentType]
        target = scheduler.get_velocity(clean, noise, t).to(device)  # pyright: ignore[reportArgumentType]
        noisy = noisy.to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            predicted = model(tokens.to(device), noisy, t.to(device))
        loss = (predicted.float() - target).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in (*optimizers, *schedules):
            part.step()
        model.zero_grad()
        _move(average, model, min(EMA, (1 + i) / (10 + i)))
        return loss.detach()

    state = {"model": model, "average": average}
    state |= {f"optimizer{n}": optimizer for n, optimizer in enumerate(optimizers)}
    state |= {f"schedule{n}": schedule for n, schedule in enumerate(schedules)}
    train(name, steps, step, state, folder)
    return average.eval()


class _Examples:
    """Draws captions with the latents of the pictures they describe."""

    def __init__(self, latents: Latents, tokenizer: CLIPTokenizer) -> None:
        self.latents, self.tokenizer, self.known = latents, tokenizer, catalogue()
        self.number = {subject: n for n, subject in enumerate(subjects())}
        self.background = {name: n for n, name in enumerate(self.known.backgrounds)}

    def batch(self, size: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Latents `(size, 16, 8, 8)` float32 and token ids `(size, TEXT_LENGTH)`."""
        rng = random.Random(f"{seed}/{step}")
        examples = [draw_example(self.known, rng) for _ in range(size)]
        which = torch.tensor([self.number[example.subject] for example in examples])
        background = torch.tensor([self.background[example.background] for example in examples])
        shift = torch.tensor([rng.randrange(SHIFTS_PER_PICTURE) for _ in examples])
        tokens = self.tokenizer(
            [example.caption for example in examples], padding="max_length", truncation=True, return_tensors="pt"
        )
        return self.latents.values[which, background, shift].float(), tokens.input_ids


def _optimizers(model: Denoiser, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the UNet's hidden matrices and convolutions; AdamW for the text encoder (whose wide matrices would
    cost Muon as much as the whole UNet), for the ends, biases and norms."""
    ends = ("conv_in", "conv_out", "time_embedding")
    hidden, rest = [], []
    for name, weight in model.named_parameters():
        is_hidden = name.startswith("unet") and weight.ndim > 1 and not any(end in name for end in ends)
        (hidden if is_hidden else rest).append(weight)
    return [
        Muon(hidden, rate, weight_decay=0.01),
        torch.optim.AdamW(rest, 0.6 * rate, betas=(0.9, 0.99), weight_decay=0.0),
    ]


@torch.no_grad()
def _move(average: nn.Module, model: nn.Module, keep: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
