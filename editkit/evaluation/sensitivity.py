"""What an edit does to other words: in closed form, without a picture, and measured on pictures (AP Fig. 1 to 3)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from editkit.concepts.templates import fill
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.variant import Variant
from editkit.erasure.rows import vocabulary_rows
from editkit.errors import EditkitError
from editkit.evaluation.scores import Score
from editkit.evaluation.statistics.intervals import Estimate, mean_interval
from editkit.model.editable import EditableModel
from editkit.progress import progress


@dataclass(frozen=True)
class Damage:
    """Closed-form damage of `words`, and the seconds that encoding and measuring them and computing it took."""

    words: tuple[str, ...]
    values: tuple[float, ...]
    seconds_to_encode: float
    seconds: float

    def ranked(self) -> list[tuple[str, float]]:
        """The most damaged word first."""
        return sorted(zip(self.words, self.values, strict=True), key=lambda pair: -pair[1])


@dataclass(frozen=True)
class Delta:
    """δ(c) of one word: original minus edited, for every seed."""

    word: str
    per_seed: tuple[float, ...]

    @property
    def estimate(self) -> Estimate:
        """Its mean with a 95 % bootstrap interval over the seeds."""
        return mean_interval(self.per_seed)


def word_damage(model: EditableModel, edits: Sequence[Variant], words: Sequence[str]) -> list[Damage]:
    """`damage_j = Σ Δᵀ G Δ / Σ cᵀ G c`, `Δ = (M − I) c`, of every word by every edit, on the model's token rows.

    Exact: the relative squared change of all keys and values that the word produces. An edit with several maps adds up
    over their projections. Of a tuned model only what reads the text is seen.

    Raises:
        EditkitError: there are no words.
    """
    if not words:
        raise EditkitError("no words to measure the damage of; give a --vocabulary with at least one")
    stream = model.streams[0]
    start = time.perf_counter()
    rows = vocabulary_rows(stream.encoders, words, model.profile.sentences_for)
    sizes = rows.sizes(stream.root)
    encoded = time.perf_counter() - start
    damages = []
    for edit in edits:
        start = time.perf_counter()
        roots = edit.change_roots(stream.inputs, stream.gram)
        values = sum((rows.sizes(root) for root in roots), sizes * 0) / sizes
        seconds = time.perf_counter() - start
        own = values[: len(words)].tolist()  # instructions before every prompt are a row of their own behind the words
        damages.append(Damage(tuple(words), tuple(own), encoded, seconds))
    return damages


def measured_deltas(
    denoiser: Denoiser,
    score: Score,
    variants: Sequence[Variant | None],
    words: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    template: str = "a {}",
    what: str = "drawing",
) -> list[list[Delta]]:
    """`δ(c) = mean_i [S(original, c, seed_i) − S(edited, c, seed_i)]` for every variant and word (AP Sec. 3).

    The original and all variants are drawn in the same batches, each seed with the same noise. Words that `score` does
    not know must be left out by the caller.
    """
    prompts = {fill(template, word): word for word in words}
    wanted = jobs(list(prompts), seeds, len(variants) + 1)
    scores: dict[tuple[str, int, int], float] = {}
    part: list[tuple[Any, Image.Image]] = []
    for pair in progress(draw(denoiser, wanted, [None, *variants], sampling), len(wanted), what):
        part.append(pair)
        if len(part) == 256:
            scores |= _scored(score, part, prompts)
            part = []
    scores |= _scored(score, part, prompts)
    return [
        [
            Delta(word, tuple(scores[word, seed, 0] - scores[word, seed, n] for seed in seeds))
            for word in prompts.values()
        ]
        for n in range(1, len(variants) + 1)
    ]


def _scored(
    score: Score, part: Sequence[tuple[Any, Image.Image]], prompts: dict[str, str]
) -> dict[tuple[str, int, int], float]:
    """Pictures are judged as they come, so that memory stays flat."""
    values = score.score([picture for _, picture in part], [prompts[job.prompt] for job, _ in part])
    return {(prompts[job.prompt], job.seed, job.variant): value for (job, _), value in zip(part, values, strict=True)}
