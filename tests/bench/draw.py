"""Benchmark: pictures against the stock pipeline's, and several variants at once against one after the other.

    python tests/bench/draw.py [--only CASE ...] [--repeat N] [--out FILE.json]

All ways of a case take turns in one process, from the same latents' shape and with the same steps, guidance and size.
"stock": diffusers' own pipeline under bfloat16 autocast. "editkit": as `generate` draws. "bfloat16": with `--dtype
bfloat16`, "compiled": with `--compile` besides, its compilation told apart. "four at once": the unedited model and
three edits in one batch, "four alone": as four runs. Cases: `emoji`, the bundled model, 16 pictures; `sd14` and `sdxl`,
their shapes with random weights, one picture of 512 and 1024 pixels at two steps.

Seconds are those of the clock, the fewest of several repeats, on a machine that does nothing else (`load_before`).
Those of the processor, summed over cores, stand beside: threads that wait for each other add to them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from editkit.drawing.pipelines import denoiser_of, open_denoiser
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import Job, draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.erasure.erase import erase
from editkit.model.checkpoints.source import find
from editkit.model.editable import open_model
from editkit.model.placement import Placement

OUT = Path("tests/bench/draw.json")
PROMPTS = ("a church", "a dog", "a red car", "a castle")
Ways = Mapping[str, Callable[[], object]]


def emoji() -> tuple[Ways, int]:
    """The ways of the bundled model, and how many pictures each draws."""
    source = find("emoji")
    plain, half, compiled = (open_denoiser(source, "cpu", Placement(dtype)) for dtype in (None, KEPT, KEPT))
    sampling, wanted = Sampling.for_model(source), jobs(PROMPTS, range(4))
    edits = [None, *(erase(open_model("emoji"), [name]) for name in ("church", "dog", "castle"))]
    four = [Job(job.prompt, job.seed, n) for job in wanted for n in range(4)]
    ways = {
        "stock": partial(stock, copy(plain.pipe), wanted, sampling),
        "editkit": partial(drawn, plain, wanted, sampling),
        "bfloat16": partial(drawn, half, wanted, sampling),
        "compiled": partial(drawn, compiled, wanted, replace(sampling, compile=True)),
        "four at once": partial(drawn, plain, four, sampling, edits),
        "four alone": lambda: [drawn(plain, wanted, sampling, [edit]) for edit in edits],
    }
    return ways, len(wanted)


def sd14() -> tuple[Ways, int]:
    """Stable Diffusion 1.4's shape."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    return _shape("StableDiffusionPipeline", unet, Sampling(2, 7.5, size=(512, 512))), 1


def sdxl() -> tuple[Ways, int]:
    """SDXL's shape."""
    from diffusers import UNet2DConditionModel

    from tests.tiny_families import _SDXL

    config: dict[str, Any] = _SDXL | {"sample_size": 128}
    unet = UNet2DConditionModel(**config)
    return _shape("StableDiffusionXLPipeline", unet, Sampling(2, 5.0, size=(1024, 1024))), 1


def _shape(kind: str, unet: Any, sampling: Sampling) -> Ways:
    """The ways of a random network in bfloat16; prompts are encoded by small encoders of the right widths."""
    import diffusers

    from tests.bench.shapes import parts

    pipe: Any = getattr(diffusers, kind)(unet=unet, **parts(kind))
    pipe.set_progress_bar_config(disable=True)
    pipe.to(dtype=HALF)
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)
    wanted, denoiser = [Job("a church", 0)], denoiser_of(pipe)
    return {
        "stock": partial(stock, copy(pipe), wanted, sampling),
        "bfloat16": partial(drawn, denoiser, wanted, sampling),
    }


HALF, KEPT = torch.bfloat16, "bfloat16"


def drawn(denoiser: Denoiser, wanted: list[Job], sampling: Sampling, variants: Any = (None,)) -> None:
    for _ in draw(denoiser, wanted, variants, sampling):
        pass


@torch.inference_mode()
def stock(pipe: Any, wanted: list[Job], sampling: Sampling) -> None:
    """All in one batch, as `editkit` draws them."""
    import diffusers

    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    height, width = sampling.size or (None, None)
    seeds = [torch.Generator().manual_seed(job.seed) for job in wanted]
    how: dict[str, Any] = {"num_inference_steps": sampling.steps, "guidance_scale": sampling.guidance}
    with torch.autocast("cpu", HALF):
        pipe([job.prompt for job in wanted], height=height, width=width, generator=seeds, **how)


def measured(ways: Ways, pictures: int, repeat: int) -> dict[str, Any]:
    """Seconds of every way, the first run apart: it compiles, and reads libraries."""
    load = round(os.getloadavg()[0], 1)
    first = {name: _seconds(way)[0] for name, way in ways.items()}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeat):
        for name, way in ways.items():
            runs[name].append(_seconds(way))
    best = {name: min(each) for name, each in runs.items()}
    stock = best["stock"][0]
    result: dict[str, Any] = {
        "pictures": pictures,
        "load_before": load,
        "seconds": {name: round(clock, 2) for name, (clock, _) in best.items()},
        "cpu_seconds": {name: round(cpu, 2) for name, (_, cpu) in best.items()},
        "first_seconds": {name: round(clock, 2) for name, clock in first.items()},
        "times_stock": {name: round(stock / best[name][0], 2) for name in best if not name.startswith("four")},
    }
    if "four alone" in best:
        result["four_at_once_of_alone"] = round(best["four at once"][0] / best["four alone"][0], 2)
    return result


def _seconds(way: Callable[[], object]) -> tuple[float, float]:
    """Of the clock, and of the processor."""
    start = perf_counter(), process_time()
    way()
    return perf_counter() - start[0], process_time() - start[1]


CASES = {"emoji": emoji, "sd14": sd14, "sdxl": sdxl}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    results = json.loads(given.out.read_text(encoding="utf-8")) if given.out.is_file() else {}
    for name in given.only:
        results[name] = measured(*CASES[name](), given.repeat)
        results[name] |= {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "processor": _processor()}
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(results[name], indent=1), flush=True)


def _processor() -> str:
    """What it multiplies bfloat16 with."""
    has = {kind: getattr(torch.cpu, f"_is_{kind}_supported", lambda: False)() for kind in ("amx_tile", "avx512_bf16")}
    return next((kind for kind, there in has.items() if there), "no bfloat16 in hardware")


if __name__ == "__main__":
    main()
