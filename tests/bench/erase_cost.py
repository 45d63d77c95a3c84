"""Benchmark: what `editkit erase` costs on a checkpoint of Stable Diffusion 1.4's size.

    python tests/bench/erase_cost.py [--folder DIR] [--out FILE.json]

Builds the checkpoint once, from the real configuration with random float32 weights (3.4 GB) and CLIP's own tokenizer,
then runs the command in a process of its own under `/usr/bin/time -v`, start-up included: unprotected as published,
with minimax over 3,000 common words that are encoded for the first time, and again with the words on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

TIME = Path("/usr/bin/time")
RUNS = {
    "rece as published": ["--protect", "none"],
    "rece, minimax, first time": [],
    "rece, minimax, words on disk": [],
}


def build(folder: Path) -> None:
    """A Stable Diffusion 1.4 folder with random weights; what drawing needs besides is left small."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from editkit.embeddings.clip_bpe import clip_tokenizer

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 77
    size: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    text = CLIPTextConfig(num_attention_heads=12, projection_dim=768, **size)
    unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    parts: dict[str, Any] = {
        "scheduler": DDIMScheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    vae = AutoencoderKL(latent_channels=4)
    StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, **parts
    ).save_pretrained(folder)


def measure(folder: Path, words: list[str], scratch: Path) -> dict[str, float]:
    """Wall seconds, processor seconds of all threads, and peak resident MiB of one `editkit erase`."""
    command = [sys.executable, "-m", "editkit_cli", "erase", "--model", str(folder), "--concept", "church"]
    command += ["--method", "rece", "--out", str(scratch / "e.safetensors"), "--force", *words]
    env = os.environ | {"EDITKIT_CACHE": str(scratch / "cache")}
    done = subprocess.run([str(TIME), "-v", *command], capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = dict(line.strip().rsplit(": ", 1) for line in done.stderr.splitlines() if ": " in line)
    minutes, seconds = lines["Elapsed (wall clock) time (h:mm:ss or m:ss)"].split(":")[-2:]
    peak = float(lines["Maximum resident set size (kbytes)"]) / 1024
    processor = sum(float(lines[f"{who} time (seconds)"]) for who in ("User", "System"))
    return {"wall_s": 60 * float(minutes) + float(seconds), "cpu_s": round(processor, 2), "peak_mib": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, help="where the checkpoint is kept; default: a temporary folder")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    if not TIME.exists():
        raise SystemExit(f"{TIME} is missing; on Debian: apt install time")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary) / "sd14"
        if not (folder / "model_index.json").exists():
            build(folder)
        bytes_ = sum(path.stat().st_size for path in (folder / "unet").glob("*.safetensors"))
        results: dict[str, Any] = {"unet_gb": round(bytes_ / 1e9, 2), "cores": len(os.sched_getaffinity(0))}
        for name, words in RUNS.items():
            results[name] = measure(folder, words, Path(temporary))
            cost = results[name]
            print(
                f"{name}: {cost['wall_s']:.1f} s ({cost['cpu_s']:.1f} s of cores), {cost['peak_mib']} MiB", flush=True
            )
    if given.out:
        given.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
