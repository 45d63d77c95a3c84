"""Train the bundled model's `AutoencoderKL`: 64×64 pictures to 8×8 latents of 16 channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from editkit.emoji.loop import train, warm_up_flat_down
from editkit.emoji.muon import Muon
from editkit.emoji.pictures import Composer
from editkit.seeds import seeded

CHANNELS: Any = (24, 48, 96, 128)
KL_WEIGHT = 1e-4


def new_vae() -> Any:
    levels: Any = len(CHANNELS)
    down: Any = ("DownEncoderBlock2D",) * levels
    up: Any = ("UpDecoderBlock2D",) * levels
    return AutoencoderKL(
        down_block_types=down,
        up_block_types=up,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def train_vae(composer: Composer, folder: Path, steps: int, batch: int = 32, rate: float = 2e-3, seed: int = 0) -> Any:
    """Loss: L1 + 0.5 × L1 of the picture's gradients + MSE + a small KL. Resumes from `folder/vae.pt`."""
    torch.manual_seed(seed)
    vae = new_vae().to(composer.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(vae.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: warm_up_flat_down(i, steps, 100, 0.4))

    def step(i: int) -> Tensor:
        pictures = composer(*composer.random(batch, seeded(seed, i)))
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(composer.device, torch.bfloat16):
            posterior = vae.encode(pictures).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=seeded(seed + 1, i)).to(composer.device)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        loss = reconstruction_loss(decoded.float(), pictures) + KL_WEIGHT * _kl(posterior.mean, posterior.logvar)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return loss.detach()

    train("vae", steps, step, {"model": vae, "optimizer": optimizer, "schedule": schedule}, folder)
    return vae.eval()


def polish_decoder(
    vae: Any, composer: Composer, folder: Path, steps: int, batch: int = 32, rate: float = 2e-3, seed: int = 0
) -> None:
    """Train the decoder alone, in place: latents, and so a denoiser trained on them, stay valid."""
    parts = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizers = [
        Muon([weight for weight in parts if weight.ndim > 1], rate),
        torch.optim.AdamW([weight for weight in parts if weight.ndim < 2], rate / 4, betas=(0.9, 0.99)),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: warm_up_flat_down(i, steps, 50, 0.3))
        for optimizer in optimizers
    ]

    def step(i: int) -> Tensor:
        pictures = composer(*composer.random(batch, seeded(seed + 2, i)))
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.autocast(composer.device, torch.bfloat16):
            with torch.no_grad():
                posterior = vae.encode(pictures).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=seeded(seed + 3, i)).to(composer.device)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        loss = reconstruction_loss(decoded.float(), pictures)
        loss.backward()
        for part in (*optimizers, *schedules):
            part.step()
        vae.zero_grad()
        return loss.detach()

    state = {"model": vae}
    state |= {f"optimizer{n}": optimizer for n, optimizer in enumerate(optimizers)}
    state |= {f"schedule{n}": schedule for n, schedule in enumerate(schedules)}
    train("decoder", steps, step, state, folder)


def reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    across, down = (torch.diff(decoded - pictures, dim=axis).abs().mean() for axis in (-1, -2))
    return F.l1_loss(decoded, pictures) + 0.5 * (across + down) + F.mse_loss(decoded, pictures)


def _kl(mean: Tensor, logvar: Tensor) -> Tensor:
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


@torch.no_grad()
def psnr(vae: Any, composer: Composer, pictures: int = 512, seed: int = 99) -> float:
    """Mean peak signal-to-noise ratio (dB) of reconstructions of random training pictures, at pictures in [0, 1]."""
    total, count = 0.0, 0
    for start in range(0, pictures, 64):
        target = composer(*composer.random(64, seeded(seed, start)))
        decoded = vae.decode(vae.encode(target).latent_dist.mode()).sample.clamp(-1, 1)
        error = ((decoded - target) / 2).square().mean(dim=(1, 2, 3))
        total += float((-10 * error.log10()).sum())
        count += len(target)
    return total / count
