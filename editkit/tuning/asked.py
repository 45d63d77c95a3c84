"""The prompts that a run reads, encoded: what is trained on, what is searched, and what is kept."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.erasure.words import words_to_protect
from editkit.seeds import seeded
from editkit.tuning.anchored import KEPT, KEPT_WORDS
from editkit.tuning.candidates import candidates
from editkit.tuning.prompts import Prompts, encode_prompts
from editkit.tuning.request import StageRequest


def encoded(denoiser: Denoiser, request: StageRequest, device: torch.device) -> Prompts:
    """The prompts of a run. The encoders are on the device meanwhile, and before the network is."""
    reader = denoiser.reader()
    reader.pipe.to(device)
    templates = request.model.profile.refine.templates
    concepts, guides = zip(*request.asked, strict=True)
    prompts = encode_prompts(reader, concepts, guides, _words(request), templates, _kept(request))
    reader.pipe.to("cpu")
    if request.options.loss.reads_attention:
        prompts = replace(prompts, places=_places(request, prompts).to(device))
    if "s" in request.options.loss.teacher:
        concepts = request.stands_for
        alike = torch.tensor([[one == other for other in concepts] for one in concepts])
        prompts = replace(prompts, alike=alike.to(device))
    return prompts


def _places(request: StageRequest, prompts: Prompts) -> Tensor:
    """Which tokens are the concept's, in every template."""
    encoder, templates = request.shown.knowing.encoder, request.model.profile.refine.templates
    places = torch.zeros(prompts.count, len(templates), prompts.known.text.shape[1], dtype=torch.bool)
    for c, (concept, _) in enumerate(request.asked):
        for n, template in enumerate(templates):
            place = encoder.place(template, concept)
            places[c, n, place.first : place.last + 1] = True
    return places


def _words(request: StageRequest) -> list[list[str]]:
    """The candidates of every concept; none where nothing is searched."""
    options = request.options
    if not options.searches_words:
        return []
    concepts, guides = zip(*request.asked, strict=True)
    named = [[each.prompt(concept) for each in request.balanced] for concept in concepts]
    if options.loss.balances == "candidates":
        return named
    knowing = request.shown.knowing
    if options.loss.balances == "mixture":  # a concept once for each attribute
        concepts, guides = tuple(dict.fromkeys(concepts)), request.guides
    words = candidates(knowing, concepts, guides, request.vocabulary, options.k, options.spread)
    near = dict(zip(concepts, words, strict=True))
    return [[*own, *near[concept]] for own, (concept, _) in zip(named, request.asked, strict=True)]


def _kept(request: StageRequest) -> list[str]:
    """Words that the importance of weights is measured on."""
    if request.options.anchor != "fisher":
        return []
    words = words_to_protect(request.model, request.concepts, request.guides, request.vocabulary)
    order = torch.randperm(len(words), generator=seeded(request.options.seed, KEPT))
    return [words[n] for n in order[:KEPT_WORDS].tolist()]
