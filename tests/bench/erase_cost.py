"""Benchmark: what `editkit erase` costs on checkpoints of the sizes of Stable Diffusion 1.4 and SDXL.

    python tests/bench/erase_cost.py [--sizes sd14 sdxl] [--folder DIR] [--repeat N] [--source DIR] [--out FILE.json]

Builds each checkpoint once, from the real configuration with random weights (SD 1.4: 3.4 GB of float32, SDXL: 6.4 GB of
float16) and CLIP's own tokenizer, then runs the command in a process of its own under `/usr/bin/time -v`, start-up
included: unprotected as published, with minimax over 3,000 common words that are encoded for the first time, and again
with the words on disk. Of several repeats the one with the fewest seconds of the processor counts: what else the
machine does only ever adds. Beside them stand seconds per phase, and what the machine cannot do faster: the
multiply-adds of `Σ WᵀW` and of the words at the rates of large products measured here, and the bytes read. `--source`
runs another copy of editkit, for a comparison side by side. Of FLUX.1 and SD 3.5, whose T5 has 4.7 billion parameters,
there is an estimate from multiply-adds alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TIME = Path("/usr/bin/time")
RUNS = {
    "rece as published": ["--protect", "none"],
    "rece, minimax, first time": [],
    "rece, minimax, words on disk": [],
}
FRESH = "rece, minimax, first time"
PROJECTIONS = {"sd14": (768, 24_320, 32), "sdxl": (2048, 166_400, 16)}
"""Width, rows of all cross-attention projections, bits of a weight."""
WORD_POSITIONS = 10_000
"""Of 3,000 words in "a X", with the end and one position of padding."""
ENCODERS = {"sd14": 85e6, "sdxl": 85e6 + 630e6}
"""Weights that every position is multiplied by."""
T5 = {"parameters": 4.7e9, "words": 295, "positions": {"flux1": 512, "sd3": 256}}


def build_sd14(folder: Path) -> None:
    """A Stable Diffusion 1.4 folder with random weights; what drawing needs besides is left small."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(**_clip(768, 12))
    unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    parts: dict[str, Any] = {
        "scheduler": DDIMScheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    vae = AutoencoderKL(latent_channels=4)
    StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=_tokenizer(), unet=unet, **parts
    ).save_pretrained(folder)


def build_sdxl(folder: Path) -> None:
    """The same of SDXL, in float16."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    big = CLIPTextConfig(**_clip(1280, 32), hidden_act="gelu")
    with torch.device("meta"):  # in float32 it would take 10 GB
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=[1, 2, 10],  # pyright: ignore[reportArgumentType]
            attention_head_dim=[5, 10, 20],  # pyright: ignore[reportArgumentType]
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    unet = unet.half().to_empty(device="cpu")
    for weight in unet.parameters():
        size = weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.0
        weight.data.copy_(size * torch.randn(weight.shape))
    StableDiffusionXLPipeline(
        vae=AutoencoderKL(latent_channels=4),
        text_encoder=CLIPTextModel(CLIPTextConfig(**_clip(768, 12))).half(),
        text_encoder_2=CLIPTextModelWithProjection(big).half(),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(pad_token="!"),
        unet=unet,
        scheduler=EulerDiscreteScheduler(),  # pyright: ignore[reportArgumentType]
    ).save_pretrained(folder)


BUILD: dict[str, Callable[[Path], None]] = {"sd14": build_sd14, "sdxl": build_sdxl}


def _clip(width: int, layers: int) -> dict[str, Any]:
    size = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": width}
    return {**size, "num_hidden_layers": layers, "num_attention_heads": width // 64}


def _tokenizer(**more: Any) -> Any:
    from editkit.embeddings.clip_bpe import clip_tokenizer

    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 77
    for name, value in more.items():
        setattr(tokenizer, name, value)
    return tokenizer


def measure(folder: Path, words: list[str], scratch: Path, source: Path | None) -> dict[str, Any]:
    """Of one `editkit erase`: wall seconds, processor seconds of all threads, peak resident MiB, seconds per phase."""
    command = [sys.executable, "-m", "editkit_cli", "erase", "--model", str(folder), "--concept", "church"]
    command += ["--method", "rece", "--out", str(scratch / "e.safetensors"), "--force", "--json", "--unchecked", *words]
    env = os.environ | {"EDITKIT_CACHE": str(scratch / "cache")}
    if source is not None:
        env["PYTHONPATH"] = f"{source}:{source / 'cli'}"
    done = subprocess.run([str(TIME), "-v", *command], capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = dict(line.strip().rsplit(": ", 1) for line in done.stderr.splitlines() if ": " in line)
    minutes, seconds = lines["Elapsed (wall clock) time (h:mm:ss or m:ss)"].split(":")[-2:]
    peak = float(lines["Maximum resident set size (kbytes)"]) / 1024
    processor = sum(float(lines[f"{who} time (seconds)"]) for who in ("User", "System"))
    cost = {"wall_s": 60 * float(minutes) + float(seconds), "cpu_s": round(processor, 2), "peak_mib": round(peak)}
    phases = json.loads(done.stdout)["figures"]["seconds"]
    return {**cost, "phases_s": {phase: round(each, 2) for phase, each in phases.items()}}


def rates() -> dict[str, float]:
    """Billions of multiply-adds in large products, and of bytes that are read and added, for a second of the cores; the
    best of three."""
    X = torch.randn(2048, 2048)
    kinds = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
    made = {}
    for name, kind in kinds.items():
        given = X.to(kind)
        made[f"{name}_gmadd_s"] = len(X) ** 3 / 1e9 / _best(lambda given=given: given @ given)
    many = torch.ones(2**28)  # a gigabyte, which no cache holds
    made["read_gb_s"] = 4e-9 * many.numel() / _best(many.sum)
    return {name: round(rate, 1) for name, rate in made.items()}


def _best(run: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        start = time.process_time()  # of all threads, like `cpu_s`
        run()
        times.append(time.process_time() - start)
    return min(times)


def limits(size: str, folder: Path, rate: dict[str, float]) -> dict[str, float]:
    """Seconds of the cores below which each of these cannot go at the rates of this machine."""
    d, rows, bits = PROJECTIONS[size]
    encoders = sum(path.stat().st_size for path in folder.glob("text_encoder*/*.safetensors"))
    gram, words = rows * d * d / 2 / 1e9, WORD_POSITIONS * ENCODERS[size] / 1e9
    return {
        "gram_gmadd": round(gram),
        "gram_s": round(gram / rate["float32_gmadd_s" if bits == 16 else "float64_gmadd_s"], 2),
        "words_gmadd": round(words),
        "words_s": round(words / max(rate["bfloat16_gmadd_s"], rate["float32_gmadd_s"]), 2),
        "read_gb": round((encoders + rows * d * bits / 8) / 1e9, 2),
        "read_s": round((encoders + rows * d * bits / 8) / 1e9 / rate["read_gb_s"], 2),
    }


def estimates(rate: dict[str, float]) -> dict[str, Any]:
    """The words of FLUX.1 and SD 3.5 through T5 at its full length, from multiply-adds alone: nothing was run."""
    best = max(rate["bfloat16_gmadd_s"], rate["float32_gmadd_s"])
    gmadd = {name: T5["words"] * length * T5["parameters"] / 1e9 for name, length in T5["positions"].items()}
    return {
        "what": "an estimate from multiply-adds, not a measurement",
        **{name: {"words_gmadd": round(each), "words_s": round(each / best)} for name, each in gmadd.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=sorted(BUILD), default=["sd14"])
    parser.add_argument("--folder", type=Path, help="where the checkpoints are kept; default: a temporary folder")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each; the one with the least work counts")
    parser.add_argument("--source", type=Path, help="another copy of editkit to run")
    parser.add_argument("--out", type=Path, help="JSON file to write; sizes that are not run stay in it")
    given = parser.parse_args()
    if not TIME.exists():
        raise SystemExit(f"{TIME} is missing; on Debian: apt install time")
    results: dict[str, Any] = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        for size in given.sizes:
            folder = (given.folder or Path(temporary)) / size
            if not (folder / "model_index.json").exists():
                torch.manual_seed(0)
                BUILD[size](folder)
            rate = rates()
            results["estimates"] = estimates(rate)
            results[size] = {
                "cores": len(os.sched_getaffinity(0)),
                "threads": torch.get_num_threads(),
                "load_before": round(os.getloadavg()[0], 1),  # what else the machine was doing
                "rates": rate,
                "limits": limits(size, folder, rate),
            }
            for name, words in RUNS.items():
                runs = []
                for _ in range(given.repeat):
                    if name == FRESH:
                        shutil.rmtree(Path(temporary) / "cache", ignore_errors=True)
                    runs.append(measure(folder, words, Path(temporary), given.source))
                results[size][name] = cost = min(runs, key=lambda run: run["cpu_s"])
                print(
                    f"{size}, {name}: {cost['wall_s']:.1f} s ({cost['cpu_s']:.1f} s of cores), {cost['peak_mib']} MiB",
                    flush=True,
                )
            results[size]["load_after"] = round(os.getloadavg()[0], 1)
            if given.out:
                given.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
