"""The words that learning starts from: those near a given one, or those with which the model denoises pictures best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from editkit.concepts.templates import fill
from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.drawing.sampler import fast
from editkit.erasure.near import closeness
from editkit.errors import EditkitError
from editkit.inverting.points import Points, PointSource
from editkit.inverting.search import HELD
from editkit.model.editable import EditableModel
from editkit.seeds import seeded

NEAR = 200
"""Words that other starts are chosen from, at most: each is a run of the text encoder."""
ROUNDS = ((4, 24), (16, 6), (64, 6))
"""Noisy latents that every word is looked at with, and how many words the round leaves."""
FIRST, BEST, AROUND = 512, 8, 24
"""Of a longer list, words in the first round; the best of these, whose nearest words join, so many of each."""
MIDDLE = 0.2, 0.8
"""Noise in which words are compared, in shares of the training steps. In less a picture says by itself what it is, in
more nothing does."""
AT_ONCE = 32


def near_words(model: EditableModel, word: str, count: int, style: bool) -> list[str]:
    """The word, and the words of one token that are nearest to it."""
    if count == 1:
        return [word]
    single = [each for each in _single_words(model, style) if each != word]
    some = single[:: max(1, len(single) // NEAR)]
    near = closeness(model.encoder, [*some, word], [word], model.gram)[:-1, 0]
    ordered = [some[n] for n in near.argsort(descending=True).tolist()]
    return [word, *ordered, *[word] * count][:count]


def best_words(
    model: EditableModel,
    denoiser: Denoiser,
    templates: Sequence[str],
    pictures: PointSource,
    seed: int,
    count: int,
    style: bool = False,
) -> list[str]:
    """The words of one token with which the model denoises pictures best, the best first.

    By the loss at the same noisy latents for all words (Li et al. 2023, "Your Diffusion Model is Secretly a Zero-Shot
    Classifier"), at more of them for fewer words from round to round. Of losses the logarithm is taken: at much noise
    they are largest, and tell least.

    Args:
        templates: what the words are said in, in turn.
        seed: of the noise.
        count: how many words.

    Raises:
        EditkitError: the vocabulary has no word of one token.
    """
    single = _single_words(model, style)
    if not single:
        raise EditkitError("--word: no word of the model's vocabulary is one token; give one")
    left = single[:: -(-len(single) // FIRST)]
    for number, (points, most) in enumerate(ROUNDS):
        seen = _points(denoiser, pictures, points, seed)
        losses = losses_of(denoiser, left, templates, seen)
        if number == 0 and len(left) < len(single):
            more = _around(model, [left[n] for n in losses.argsort()[:BEST].tolist()], single, set(left))
            losses = torch.cat([losses, losses_of(denoiser, more, templates, seen)])
            left = [*left, *more]
        left = [left[n] for n in losses.argsort(stable=True)[: max(most, count)].tolist()]
    return [*left, *left[:1] * count][:count]


@torch.no_grad()
def losses_of(denoiser: Denoiser, words: Sequence[str], templates: Sequence[str], points: Points) -> Tensor:
    """Mean over all points of the logarithm of each word's loss there, `(words,)`; templates in turn."""
    prompts = [fill(template, word) for word in words for template in templates]
    encoded: list[Condition] = []
    for start in range(0, len(prompts), AT_ONCE):
        encoded += denoiser.encode(prompts[start : start + AT_ONCE])[0]
    asked = [(word, n) for word in range(len(words)) for n in range(len(points))]
    missed = []
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        at = torch.tensor([n for _, n in some], device=points.z.device)
        read = Condition.joined([encoded[word * len(templates) + n % len(templates)] for word, n in some])
        own = points[at]
        with fast(points.z.device, denoiser.half):
            missed.append(own.missed(denoiser.predict(own.z, own.t, read).float()))
    return torch.cat([*missed, points.z.new_zeros(0).float()]).view(len(words), len(points)).log().mean(1).cpu()


def _single_words(model: EditableModel, style: bool) -> list[str]:
    words = model.profile.styles if style and model.profile.styles else model.own_words()
    return [each for each in words if len(model.encoder.reader.part(each)) == 1]


def _around(model: EditableModel, best: Sequence[str], words: Sequence[str], known: set[str]) -> list[str]:
    """The words nearest to the best ones that are not `known`."""
    near = closeness(model.encoder, words, best, model.gram)
    ordered = (words[int(n)] for column in near.T for n in column.topk(min(AROUND, len(words))).indices.tolist())
    return [each for each in dict.fromkeys(ordered) if each not in known]


def _points(denoiser: Denoiser, pictures: PointSource, count: int, seed: int) -> Points:
    least, most = (share * denoiser.scheduler.config.num_train_timesteps for share in MIDDLE)
    times = (least + (torch.arange(count) + 0.5) * (most - least) / count).long()
    return pictures.at(times, seeded(seed, HELD))
