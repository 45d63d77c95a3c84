"""Benchmark: the ways to sum `G = Σ WᵀW`, side by side in one run.

    python tests/bench/gram.py [--device cpu] [--repeats 3] [--out tests/bench/gram.json]

Random weights: the projections of Stable Diffusion 1.4 (24,960 rows of 768), and sixteen of SDXL's of 1,280 outputs
(20,480 rows of 2,048; all of them are 166,400). Ways take turns, and each has its quickest run. On the processor
seconds are its own, to which other load adds little; their ratios to float64 are what is compared. `off` is
`‖Ĝ − G‖ / ‖G‖`, `worst` the largest `|Ĝ_jk − G_jk| / √(G_jj G_kk)`, against float64 on the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor

from editkit.edits.gram import Way, gram_matrix
from tests.bench.closed_form import OUTS, WIDTH, machine
from tests.reference import random_weights

SHAPES = {"sd14": OUTS["sd14"], "sdxl": [1280] * 16}
DTYPES = ("float16", "float32")
WAYS: tuple[Way, ...] = get_args(Way)


def seconds(device: str) -> float:
    """Of the clock on a GPU, else of the processor."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measured(model: str, dtype: str, device: str, repeats: int) -> dict[str, Any]:
    """Seconds, ratios and errors of every way."""
    d = WIDTH[model]
    here = [W.to(getattr(torch, dtype)) for W in random_weights(SHAPES[model], d, seed=1).values()]
    there = [W.to(device) for W in here]
    exact = gram_matrix(here, d, "float64")
    taken: dict[Way, float] = {}
    off: dict[Way, dict[str, float]] = {}
    for _ in range(repeats):
        for way in WAYS:
            start = seconds(device)
            made = gram_matrix(there, d, way)
            taken[way] = min(taken.get(way, float("inf")), seconds(device) - start)
            off[way] = errors(made.cpu(), exact)
    ways = {
        way: {"seconds": round(taken[way], 4), "to_float64": round(taken[way] / taken["float64"], 3), **off[way]}
        for way in WAYS
    }
    return {"model": model, "rows": sum(map(len, here)), "width": d, "dtype": dtype, "device": device, "ways": ways}


def errors(made: Tensor, exact: Tensor) -> dict[str, float]:
    sizes = exact.diagonal().sqrt()
    apart = (made - exact).abs()
    worst = float((apart / sizes[:, None] / sizes).max())
    return {"off": float(f"{float(apart.norm() / exact.norm()):.2g}"), "worst": float(f"{worst:.2g}")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for model in args.models:
        for dtype in DTYPES:
            results.append(measured(model, dtype, args.device, args.repeats))
            print(json.dumps(results[-1]), flush=True)
    if args.out:
        report = {"machine": machine(args.threads), "repeats": args.repeats, "results": results}
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
