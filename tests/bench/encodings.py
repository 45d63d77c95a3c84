"""Benchmark: prompts that a search encodes a second, against a loop that encodes one by one.

    python tests/bench/encodings.py [--prompts N] [--repeat N] [--out FILE.json]

All ways take turns in one run, on the bundled model's text encoder, and are given as prompts a second. "loop": the
encoder is asked for one prompt after the other. "batches": 128 at once, as gradients and crossings propose them, none
seen before. "seen again": a second time, as when a search meets its own prompts. Of several repeats the fastest counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor

from editkit.model.editable import open_model
from editkit.redteam.cost import Cost
from editkit.redteam.letters import TokenLetters

BATCH, WORDS, POSITIONS = 128, 4, 12
"""As in `prompt`: four words, their start and end, and some padding."""


def rates(count: int, repeat: int) -> dict[str, float]:
    """Prompts a second of every way."""
    model = open_model("emoji")
    best: dict[str, float] = {}
    for n in range(repeat):
        letters = TokenLetters.of(model.encoder, None, POSITIONS)
        prompts = torch.randint(letters.count, (count, WORDS), generator=torch.Generator().manual_seed(n))
        few = prompts[: count // 8]  # the loop is slow
        for name, some, way in (("loop", few, loop), ("batches", prompts, batches), ("seen again", prompts, batches)):
            start = perf_counter()
            way(letters, some)
            best[name] = max(best.get(name, 0.0), len(some) / (perf_counter() - start))
    return best


def loop(letters: TokenLetters, prompts: Tensor) -> None:
    """One by one."""
    for prompt in prompts.tolist():
        letters.encoder.encode([letters.text(prompt)])


def batches(letters: TokenLetters, prompts: Tensor) -> None:
    """As a search asks for them."""
    for chunk in prompts.split(BATCH):
        letters.rows(chunk, Cost())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/encodings.json"))
    given = parser.parse_args()
    per_second = rates(given.prompts, given.repeat)
    result = {
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "per_second": {name: round(rate) for name, rate in per_second.items()},
        "ratio": {name: round(rate / per_second["loop"], 1) for name, rate in per_second.items()},
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
