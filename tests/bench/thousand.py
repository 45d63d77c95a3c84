"""Benchmark: a thousand concepts at once, and a tokenizer's whole vocabulary as the words to protect.

    python tests/bench/thousand.py [--only NAME ...] [--concepts N] [--folder DIR] [--out FILE.json]

`solve`: the closed form and its figures on random rows of the real shapes, which correlate as those of padded prompts
do: Stable Diffusion 1.4 (width 768) and SDXL (two encoders side by side, width 2048), protected by 3,000 words of three
rows. No text encoder runs. `words`: what is asked of words before anything is encoded: which of 3,000 common words
are one of the concepts. `encode`: the prompts of a few concepts on the encoder of `erase_cost.py`'s checkpoint, all
templates, in full length. `score`: the damage of 49,408 words of three rows, by the root of an edit's change.

Every case runs in a process of its own, so that its peak memory is its own. Seconds are those of the processor, summed
over cores, and of the clock; other load adds to the clock alone. A run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor

from tests.bench.closed_form import OUTS, ROW_SIZE, WIDTH
from tests.reference import correlated_rows, random_weights

OUT = Path("tests/bench/thousand.json")
CONCEPTS, WORDS, TOKENS, WORD_ROWS = 1000, 3000, 49408, 3
TEMPLATES, TAIL = 4, 71
"""Prompts a concept, and rows of each from its last token to the end: what a protected edit is solved over."""
SOLVES = {
    "sd14, uce, minimax": ("sd14", "uce", "minimax"),
    "sd14, rece, minimax": ("sd14", "rece", "minimax"),
    "sd14, rece, null": ("sd14", "rece", "null"),
    "sd14, uce, none": ("sd14", "uce", "none"),
    "sd14, rece, none": ("sd14", "rece", "none"),
    "sdxl, uce, none": ("sdxl", "uce", "none"),
    "sdxl, uce, null": ("sdxl", "uce", "null"),
    "sdxl, uce, minimax": ("sdxl", "uce", "minimax"),
    "sdxl, rece, minimax": ("sdxl", "rece", "minimax"),
}
OTHERS = ("words", "encode", "score")


class Phases:
    """Seconds of the processor and of the clock, by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        done = work()
        spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        self.seconds[name] = {key: round(value, 3) for key, value in spent.items()}
        return done


def few_rows(count: int, each: int, d: int, seed: int, least: float = 1.0) -> Tensor:
    """`(count, each, d)` float32: rows that share a mean, which is what most of a text encoder's rows is; of their
    directions the last is used `least` times as much as the first."""
    generator = torch.Generator().manual_seed(seed)
    mean, scale = torch.randn(1, 1, d, generator=generator), torch.logspace(0, math.log10(least), d)
    return (mean + torch.randn(count, each, d, generator=generator) * scale) * (ROW_SIZE / 2**0.5)


def solve_case(model: str, method: str, protect: str, concepts: int) -> dict[str, Any]:
    """Random rows of the real number; the solve and the figures apart."""
    from editkit.edits.figures import measure
    from editkit.edits.gram import gram_matrix
    from editkit.edits.method import Options
    from editkit.edits.problem import Problem, Rows
    from editkit.edits.protect import ProtectedWords

    d, phases = WIDTH[model], Phases()
    weights = {name: W.float() for name, W in random_weights(OUTS[model], d, seed=1).items()}
    options = Options(method, protect=protect)
    rows_each = 1 if options.tokens == "last" else TEMPLATES * TAIL if options.is_protected else TAIL + 6
    guide = torch.cat(list(correlated_rows(1, rows_each, d, seed=3, size=ROW_SIZE))).double()
    rows = tuple(Rows(few_rows(1, rows_each, d, seed=n)[0], guide) for n in range(concepts))
    protected = None
    if options.is_protected:
        least = 1e-3 if protect == "null" else 1.0  # words of white noise would use every direction
        vocabulary = few_rows(WORDS, WORD_ROWS, d, -1, least)
        protected = ProtectedWords(tuple(map(str, range(WORDS))), tuple(vocabulary))
    gram = phases("gram", lambda: gram_matrix(weights.values(), d))
    problem = Problem(rows, None, weights, gram, protected)
    solution = phases("solve", lambda: options.solve(problem))
    figures = phases("figures", lambda: measure(solution, problem, options.is_protected, checked=False))
    return {"phases": phases.seconds, "rows": problem.count, "rank": figures.rank, "tokens": options.tokens}


def words_case(concepts: int) -> dict[str, Any]:
    """Which words are one of the concepts, by spelling."""
    from editkit.concepts.vocabulary import common_words, same_word

    phases, words = Phases(), common_words()
    chosen = words[:concepts]
    found = phases("by stem", lambda: _of_all(chosen))
    asked = phases("each with each, of a tenth", lambda: [
        [other for other in chosen if same_word(word, other)] for word in words[::10]
    ])  # fmt: skip
    return {"phases": phases.seconds, "same": found[::10] == asked}


def _of_all(chosen: tuple[str, ...]) -> list[list[str]]:
    from editkit.concepts.vocabulary import SameWords, common_words

    spelled = SameWords(chosen)
    return [spelled.of(word) for word in common_words()]


def encode_case(folder: Path, concepts: int = 12) -> dict[str, Any]:
    """Rows of a few concepts, all together and one by one; each costs the same, however many there are."""
    from editkit.concepts.templates import TEMPLATES as SENTENCES
    from editkit.concepts.vocabulary import common_words
    from editkit.erasure.concept_rows import ConceptRows
    from editkit.model.editable import open_model

    encoder, phases = open_model(str(folder)).encoder, Phases()
    pairs: list[tuple[str, str]] = [(word, " ") for word in common_words()[:concepts]]
    encoder.encode(["a warm-up"])
    phases("together", lambda: ConceptRows([encoder], SENTENCES, "tail").some(pairs))
    encoder._known.clear()  # pyright: ignore[reportPrivateUsage]
    phases("one by one", lambda: [ConceptRows([encoder], SENTENCES, "tail").of(*pair) for pair in pairs])
    encoder._known.clear()  # pyright: ignore[reportPrivateUsage]
    wide = [(word, " ") for word in common_words()[: 4 * concepts + 1]]
    phases(f"last row alone, of {len(wide)}", lambda: ConceptRows([encoder], ("{}",), "last").some(wide))
    return {"phases": phases.seconds, "concepts": concepts, "prompts": concepts * len(SENTENCES)}


def score_case() -> dict[str, Any]:
    """The damage of every entry of CLIP's tokenizer, on SD 1.4's shape; the map is that of five erased concepts."""
    from editkit.edits.gram import gram_matrix, square_root
    from editkit.edits.protect import ProtectedWords, change_root
    from editkit.edits.solve import Penalty, solve

    d, phases = WIDTH["sd14"], Phases()
    weights = random_weights(OUTS["sd14"], d, seed=1)
    gram = gram_matrix(weights.values(), d)
    C = few_rows(5, 77, d, seed=2).flatten(0, 1).double()
    edit = solve(C, C.roll(1, 0), Penalty.of(0.5, None, d)).truncate(5)[0]
    words = ProtectedWords(tuple(map(str, range(TOKENS))), tuple(few_rows(TOKENS, WORD_ROWS, d, seed=3)))
    root = square_root(gram)
    phases("rows together", lambda: words.stacked)
    sizes = phases("sizes, once a vocabulary", lambda: words.sizes(root, exact=False))
    scored = phases("score an edit of rank 5", lambda: words.sizes(change_root(root, edit), exact=False) / sizes)
    whole = phases("damage, as an edit reports it", lambda: words.damage(edit, gram))
    again = phases("damage of the next edit", lambda: words.damage(edit, gram))
    worst = float(((scored - whole) / whole).abs().max())
    return {"phases": phases.seconds, "words": TOKENS, "rows": TOKENS * WORD_ROWS, "worst_relative_error": worst,
            "again": float((again - whole).abs().max())}  # fmt: skip


def run_here(name: str, concepts: int, folder: Path | None) -> dict[str, Any]:
    if name in SOLVES:
        done = solve_case(*SOLVES[name], concepts)
    elif name == "encode":
        if folder is None:
            raise SystemExit("encode: give --folder, the checkpoint that erase_cost.py builds")
        done = encode_case(folder)
    else:
        done = words_case(concepts) if name == "words" else score_case()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**done, "peak_mib": round(peak), "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1)}


def as_markdown(known: dict[str, Any]) -> str:
    """A row a solve: processor seconds and memory, for the page."""
    lines = ["| solved | rows | solve | figures | memory |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in SOLVES:
        if name in known:
            made = known[name]
            solve, figures = (f"{made['phases'][phase]['cpu_s']:.1f} s" for phase in ("solve", "figures"))
            lines.append(f"| {name} | {made['rows']:,} | {solve} | {figures} | {made['peak_mib'] / 1024:.1f} GiB |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=[*SOLVES, *OTHERS], default=[*OTHERS, *SOLVES])
    parser.add_argument("--concepts", type=int, default=CONCEPTS)
    parser.add_argument("--folder", type=Path, help="the checkpoint of erase_cost.py, for `encode`")
    parser.add_argument("--out", type=Path, help="JSON file to go on with")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(run_here(given.here, given.concepts, given.folder)))
        return
    known: dict[str, Any] = {}
    if given.out and given.out.is_file():
        known = json.loads(given.out.read_text(encoding="utf-8"))
    for name in given.only:
        command = [sys.executable, __file__, "--here", name, "--concepts", str(given.concepts)]
        command += ["--folder", str(given.folder)] if given.folder else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        known[name] = json.loads(done.stdout.splitlines()[-1])
        if name in SOLVES:
            known[name]["concepts"] = given.concepts
        print(name, known[name], flush=True)
        if given.out:
            given.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
