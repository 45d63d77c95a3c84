"""Train the bundled model: `python -m editkit.emoji.train`. Stops and resumes at any time.

Icons → VAE → latents → text encoder and UNet → judge. Each stage keeps its state in the run folder; a stage that is
done is not done again. The finished model is written as a diffusers folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from editkit.emoji.catalogue import subjects
from editkit.emoji.icons import render_all
from editkit.emoji.parts import kept_tokenizer, new_scheduler
from editkit.emoji.pictures import Composer
from editkit.emoji.train_denoiser import Denoiser, Latents, cache_latents, train_denoiser
from editkit.emoji.train_judge import accuracy, keep_recognised, train_judge, unedited_generations, write_judge
from editkit.emoji.train_vae import polish_decoder, psnr, train_vae
from editkit.model.checkpoints.source import find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/emoji"), help="where downloads and checkpoints are")
    parser.add_argument("--out", type=Path, default=find("emoji").path, help="where the finished model is written")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--vae-steps", type=int, default=2300)
    parser.add_argument("--decoder-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=5200)
    parser.add_argument("--judge-steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_flush_denormal(True)  # fading gradients slow a CPU run down by half

    composer = Composer(render_all(subjects(), given.folder), given.device)
    vae = train_vae(composer, given.folder, given.vae_steps, seed=given.seed)
    latents = cache_latents(vae, composer, given.folder / "latents.pt", seed=given.seed)
    tokenizer = kept_tokenizer(given.folder / "tokenizer")
    denoiser = train_denoiser(
        latents, tokenizer, given.folder, given.steps, given.batch, device=given.device, seed=given.seed
    )
    polish_decoder(vae, composer, given.folder, given.decoder_steps, seed=given.seed)
    print(f"VAE: reconstruction PSNR {psnr(vae, composer):.2f} dB")
    write(given.out, vae, latents, tokenizer, denoiser)
    print(f"model: {given.out}")
    first = train_judge(composer, given.folder, given.judge_steps, seed=given.seed, name="judge-icons")
    drawn = keep_recognised(first, unedited_generations(find(given.out)))
    judge = train_judge(
        composer, given.folder, given.judge_steps // 2, drawn, rate=1e-3, seed=given.seed + 1, start=first
    )
    print("judge on clean icons:", accuracy(judge, composer))
    write_judge(judge, given.out.parent / "judge.safetensors")


def write(out: Path, vae: Any, latents: Latents, tokenizer, denoiser: Denoiser) -> None:
    """The pipeline as a diffusers folder, float16 safetensors."""
    vae.register_to_config(scaling_factor=latents.scale)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=new_scheduler(),
        safety_checker=None,  # pyright: ignore[reportArgumentType]
        feature_extractor=None,  # pyright: ignore[reportArgumentType]
        requires_safety_checker=False,
    )
    pipeline.to("cpu", torch.float16)
    pipeline.save_pretrained(out)
    # transformers loads in the dtype that the config names, diffusers in float32: name float32, so that both agree
    config = out / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")


if __name__ == "__main__":
    main()
