"""Which concepts do two models draw most differently? Eq. 19 of the talk on erasing concepts; nothing is trained."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from editkit.concepts.profile import ProfileOrFile
from editkit.concepts.templates import fill
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.drawing.sampler import noise
from editkit.drawing.sampling import Sampling, plain_scheduler
from editkit.drawing.trajectory import trajectory
from editkit.errors import EditkitError
from editkit.files.atomic import check_free, write_atomic
from editkit.model.apply import apply_edit
from editkit.model.checkpoints.source import Source, find, is_model
from editkit.model.editable import open_model
from editkit.progress import progress
from editkit.variants.edit_file import load_edit
from editkit.variants.fit import check_fit
from editkit.variants.named import BASE

STEPS = 20
"""Steps of the trajectories that the latents are taken from."""


@dataclass(frozen=True)
class Difference:
    """One word; means over the latents.

    Attributes:
        score: what the words are ranked by: `change`; where a concept is given, `distance + λ change`.
        change: `‖ε'(c) − ε(c)‖²`.
        relative: `change` as a part of `‖ε(c) − ε(∅)‖²`, what the word does in the first model.
        distance: `‖ε'(c_e) − ε(c)‖²`; None without a concept.
    """

    word: str
    score: float
    change: float
    relative: float
    distance: float | None = None


@dataclass(frozen=True)
class Latents:
    """`(points, channels, h, w)` and their t, `(points,)`."""

    z: Tensor
    t: Tensor


@dataclass(frozen=True)
class Predictor:
    """A model, with its edit in it. Everything is float32: small differences are compared."""

    source: Source
    denoiser: Denoiser

    def states(self, texts: Sequence[str]) -> Condition:
        """One row a text."""
        return Condition.joined(self.denoiser.encode(texts)[0])

    @torch.no_grad()
    def outputs(self, latents: Latents, texts: Sequence[str], batch: int) -> Tensor:
        """Without guidance, every text on every latent: `(texts, points, channels · h · w)`."""
        n, k = len(latents.t), len(texts)
        rows = torch.arange(k, device=latents.z.device).repeat_interleave(n)
        read, z, t = self.states(texts), latents.z.repeat(k, 1, 1, 1), latents.t.repeat(k)
        parts = [
            self.denoiser.predict(z[some], t[some], read[rows[some]]).float().flatten(1)
            for some in torch.arange(k * n, device=z.device).split(batch)
        ]
        return torch.cat(parts).view(k, n, -1)


def inspect(
    first: str,
    second: str,
    words: Sequence[str] | None = None,
    model: str | None = None,
    concept: str | None = None,
    lamb: float = 1.0,
    seeds: Sequence[int] = (0, 1),
    points: int = 4,
    batch: int = 32,
    template: str = "a {}",
    device: str = "cpu",
    profile: ProfileOrFile | None = None,
) -> list[Difference]:
    """Words, first the one that `first` and `second` predict most differently at the same z_t and t.

    The latents are those of unguided trajectories (DDIM's; of flow matching, the model's own) that `first` draws of
    nothing, one a seed, at `points` of their steps. All words are compared on the same ones, so that their order
    depends on no word's own picture.

    Args:
        first: ε: `base`, an edit file, a result of `editkit refine`, or a model.
        second: ε', likewise.
        words: default: those of the first model's profile.
        model: what `base` is, and what edits change. Default: `$EDITKIT_MODEL`, else the bundled model.
        concept: `c_e`, where it is known what was changed. Without it, words are ranked by their change alone.
        lamb: λ, the weight of the change against the distance from `c_e`.
        profile: of both models, in place of their own: see `find`.

    Raises:
        EditkitError: a model cannot be read, or the two have different latents or noise.
    """
    before, after = _pair(first, second, model, device, profile)
    words = list(dict.fromkeys(open_model(before.source).own_words() if words is None else words))
    latents = _latents(before, seeds, points)
    nothing = before.outputs(latents, [""], batch)
    changed = None if concept is None else after.outputs(latents, [fill(template, concept)], batch)
    size = max(1, batch // len(latents.t))
    chunks = [words[start : start + size] for start in range(0, len(words), size)]
    differences = []
    for some in progress(chunks, len(chunks), "inspecting"):
        texts = [fill(template, word) for word in some]
        here, there = (each.outputs(latents, texts, batch) for each in (before, after))
        change, effect = _mean_distance(there, here), _mean_distance(here, nothing)
        far = [None] * len(some) if changed is None else _mean_distance(changed, here)
        differences += map(_difference, some, change, effect, far, [lamb] * len(some))
    return sorted(differences, key=lambda row: (-row.score, row.word))


def write_differences(differences: Sequence[Difference], out: Path, force: bool = False) -> None:
    """A CSV, one row a word, first the one that differs most."""
    names = [column.name for column in fields(Difference)]

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["rank", *names])
            writer.writeheader()
            writer.writerows({"rank": n, **asdict(row)} for n, row in enumerate(differences, 1))

    check_free(out, force)
    write_atomic(out, write, force)


def _mean_distance(first: Tensor, other: Tensor) -> list[float]:
    """`‖one − other‖²` of every word, the mean over the points."""
    return (first - other).double().square().sum(2).mean(1).tolist()


def _difference(word: str, change: float, effect: float, far: float | None, lamb: float) -> Difference:
    score = change if far is None else far + lamb * change
    return Difference(word, score, change, change / effect if effect else 0.0, far)


@torch.no_grad()
def _latents(predictor: Predictor, seeds: Sequence[int], points: int) -> Latents:
    """Whole trajectories, every so many steps: the first step is all noise, the last nearly a picture."""
    if not seeds or not 1 <= points <= STEPS:
        raise EditkitError(f"--points: expected at least one seed, and 1 to {STEPS} points, got {points}")
    denoiser = predictor.denoiser
    scheduler = denoiser.schedule(Sampling(STEPS, guidance=1, scheduler=plain_scheduler(denoiser.scheduler)))
    noises = torch.stack([noise(denoiser.latent_shape(), seed) for seed in seeds]).to(denoiser.device)
    nothing = predictor.states([""])[torch.zeros(len(seeds), dtype=torch.long, device=denoiser.device)]
    way = trajectory(denoiser.predict, scheduler, noises, nothing)
    kept = set(torch.linspace(0, STEPS - 1, points).round().int().tolist())
    taken = [(moment.z, moment.t) for n, moment in enumerate(way) if n in kept and moment.t is not None]
    return Latents(torch.cat([z for z, _ in taken]), torch.cat([t for _, t in taken]))


def _pair(
    first: str, second: str, model: str | None, device: str, profile: ProfileOrFile | None
) -> tuple[Predictor, Predictor]:
    """Both models; what they share is read once."""
    plain: dict[Source, Denoiser] = {}
    pair = tuple(_opened(name, model, device, plain, profile) for name in (first, second))
    for part, names in (
        ("network", ("in_channels", "sample_size", "cross_attention_dim")),
        ("scheduler", ("prediction_type", "num_train_timesteps", "beta_schedule", "beta_start", "beta_end", "shift")),
    ):
        for name in names:
            mine, theirs = (getattr(each.denoiser, part).config.get(name) for each in pair)
            if mine != theirs:
                raise EditkitError(
                    f"{second}: its {part} has {name} {theirs}, that of {first} has {mine}; only models with the same "
                    "latents and noise can be compared"
                )
    return pair[0], pair[1]


def _opened(
    name: str, model: str | None, device: str, plain: dict[Source, Denoiser], profile: ProfileOrFile | None
) -> Predictor:
    is_edit = name != BASE and Path(name).exists() and not is_model(name)
    source = find(model if is_edit or name == BASE else name, profile=profile)
    if source not in plain:
        plain[source] = open_denoiser(source, device)
    if not is_edit:
        return Predictor(source, plain[source])
    edit = load_edit(name)
    check_fit(edit, open_model(source))
    edited = plain[source].copied()
    apply_edit(edited.pipe, edit)
    return Predictor(source, edited)
