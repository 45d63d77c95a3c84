"""`editkit erase`: remove concepts. Concepts → embeddings → map → figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editkit.concepts.templates import check_concepts
from editkit.edits.edit import Edit
from editkit.edits.method import Method, Options, Tokens
from editkit.edits.problem import Rows
from editkit.embeddings.learned import Learned
from editkit.erasure.bound import METHOD, erase_bound
from editkit.erasure.captions import Captions, CaptionsLike
from editkit.erasure.concept_rows import ConceptRows
from editkit.erasure.guides import Ways, usual_guides
from editkit.erasure.make import Clock, Request, check_preserve, make_edit, words_of
from editkit.erasure.pictured import MASKED, Pictured, check_guides
from editkit.erasure.presets.preset import Preset
from editkit.erasure.presets.preset_file import load_preset
from editkit.erasure.rows import Encoders, concept_rows
from editkit.erasure.synonyms import MoreWords, how_of, synonyms_of, words_in
from editkit.erasure.words import check_known, nearness
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, ModelLike, open_model


def erase(
    model: ModelLike,
    concepts: Sequence[str] = (),
    guides: Sequence[str] = (),
    preserve: Sequence[str] = (),
    options: Method | None = None,
    vocabulary: Sequence[str] | None = None,
    checked: bool = True,
    synonyms: str | None = None,
    synonym: MoreWords = (),
    found: Mapping[str, Sequence[str]] | None = None,
    found_weight: float = 1.0,
    prior: CaptionsLike | None = None,
    preset: Preset | str | Path | None = None,
    of: Sequence[str] = (),
    phrase: str | None = None,
    device: str | None = None,
    pictures: Sequence[Learned] = (),
) -> Edit:
    """Erase `concepts` from `model`.

    Args:
        model: as `open_model` takes it, or what it returns.
        concepts: words or phrases; default: the preset's; with `pictures` there may be none.
        guides: what each becomes: a text, `average` (the mean of the vocabulary), `nearest` (its closest word),
            `in-class` (of its closest words the one that costs others least) or `safe` (what is left of its rows in the
            span of a few words' rows). One serves all concepts. Default: `average` with a protected vocabulary, else
            `" "`; a style becomes the style that is least like it.
        preserve: prompts that must stay as they are.
        options: how to solve it, and with what protection; default: `Options()`, with `of` `Options("uce")`.
        vocabulary: words to protect. Default: the words of the model's profile.
        checked: refuse an edit that blows up; else warn of it.
        synonyms: `erase` erases with a concept what is known or measured to mean the same; `leave` neither erases nor
            protects it. Default: `erase`, and `leave` without protection, as published.
        synonym: more words to erase; each goes with the concept that it is nearest to, or, as concept → words, with
            that.
        found: concept → prompts that brought it back, as `harden` finds them: erased with it, in all their rows.
        found_weight: of all found prompts of a concept together, against its own rows.
        prior: captions to hold where they are, or a file of them, one a line; `prior_strength` of the options weighs
            them. They are read one after another, so there can be any number.
        preset: a name of `presets()`, or its file: it says what is not given here. `options` are taken as they are; for
            some of them and the preset's others give `load_preset(name).options(lamb=0.2)`.
        of: erase the concepts where they are said of one of these alone: "noto" of churches.
        phrase: how a concept is said of them, with `{x}` and `{y}`; default: `{y} in the style of {x}` for a style of
            the model's profile, else `{x} {y}`.
        device: where it is solved: `cpu`, `cuda`, ..., and where its maps then lie; default: where an open model is,
            else `cpu`.
        pictures: what `invert` learned: each is a concept of the name of its word, erased by the rows of all its
            restarts; and by those of the word as well, where `concepts` has it. With masks it becomes what they leave,
            which is preserved, as is the word for it; it has no guide.

    Raises:
        EditkitError: an impossible request, or an edit that would break the checkpoint.

    >>> made = erase("emoji", ["church"])
    >>> made.record["method"], made.map.width, made.record["figures"]["erasure_residual"] < 0.2
    ('rece', 512, True)
    >>> made.record["synonyms"]
    {'church': ['chapel']}
    """
    model, chosen = open_model(model, device=device), Preset("") if preset is None else load_preset(preset)
    if of and preset is None:
        options = options or Options(METHOD)
    concepts, own_guides, preserve, options, synonyms, synonym = chosen.filled(
        concepts, guides, preserve, options, synonyms, synonym
    )
    said = None if preset is None else chosen.record
    named, shown = list(concepts), Pictured.of(model, pictures)
    concepts = [*named, *(each.word for each in pictures if each.word not in named)]
    check_concepts(concepts)
    if of or phrase is not None:
        _check_bound(of, guides, found)
        if pictures:
            raise EditkitError("--from: goes with words, and pictures say no word; leave one of them out")
        captions = None if prior is None else Captions.of(prior)
        return erase_bound(
            model, concepts, of, phrase, preserve, options, vocabulary, checked, synonym, captions, said,
        )  # fmt: skip
    guides = own_guides
    asked = [*concepts, *words_in(synonym)]
    check_known(model, [*named, *words_in(synonym)])
    check_guides(shown, concepts, guides)
    guides = _one_each(concepts, guides or usual_guides(model, concepts, options))
    known = {text.strip().lower() for text in (*preserve, *asked)}
    preserve = [*preserve, *(word for word in shown.stays if word.lower() not in known)]
    check_preserve(asked, preserve)
    captions = None if prior is None else Captions.of(prior)
    clock = Clock()
    with clock("words"):
        near = None
        if options.is_protected:  # both read it: what is erased along, and what is not protected
            near = nearness(model, concepts, model.own_words() if vocabulary is None else vocabulary)
        same = _synonyms(model, concepts, synonyms, options, synonym, vocabulary, near)
        also = [word for words in same.values() for word in words]
        also += shown.alike(model.own_words() if vocabulary is None else vocabulary)
        same = {word: some if word in named else _said(some, synonym) for word, some in same.items()}
        words = words_of(model, options, concepts, guides, vocabulary, also, near)
        ways = Ways.of(model, concepts, words, options)
        texts = ways.guides(concepts, guides)
    told = [text if isinstance(text, str) else guide for text, guide in zip(texts, guides, strict=True)]
    told = [MASKED if shown.is_masked(concept) else text for concept, text in zip(concepts, told, strict=True)]
    about: dict[str, Mapping[str, Any]] = {}
    if pictures:
        with clock("pictures"):
            about = {each.word: shown.told(each) for each in pictures}
    request = Request(
        model, options, concepts, [str(guide) for guide in told], preserve, words, checked, same, found or {},
        found_weight, captions, said, pictures=about, clock=clock,
    )  # fmt: skip
    with clock("embeddings"):
        pairs = list(zip(concepts, texts, strict=True))
        asked_by = {word: [*([word] if word in named else []), *same[word]] for word in concepts}
        by_words = [_erased_rows(stream.encoders, pairs, asked_by, ways, options.tokens) for stream in model.streams]
        by_pictures = [_pictured_rows(shown, n, pairs, ways, options.tokens) for n in range(len(model.streams))]
        rows = [
            [Rows.joined([each[concept] for each in (worded, pictured) if concept in each]) for concept in concepts]
            for worded, pictured in zip(by_words, by_pictures, strict=True)
        ]
        kept = [_kept_rows(shown, each) for each in by_pictures]
        brought = [
            [_found_rows(stream.encoders, (found or {}).get(concept, ()), text) for concept, text in pairs]
            for stream in model.streams
        ]
    return make_edit(request, rows, brought if found else None, kept)


def _check_bound(of: Sequence[str], guides: Sequence[str], found: Mapping[str, Sequence[str]] | None) -> None:
    if not of:
        raise EditkitError("--phrase: says how a concept is said of what --from names; give that, too")
    if guides:
        raise EditkitError(
            "--guide: with --from a phrase becomes what it is said of, 'a noto church' 'a church'; drop it"
        )
    if found:
        raise EditkitError("found prompts are erased everywhere, and --from erases in one place; leave one of them out")


def _synonyms(
    model: EditableModel,
    concepts: Sequence[str],
    how: str | None,
    options: Method,
    synonym: MoreWords,
    vocabulary: Sequence[str] | None,
    near: Tensor | None,
) -> dict[str, list[str]]:
    how = how_of(how, options.is_protected)
    return synonyms_of(model, concepts, synonym, vocabulary, how == "erase", near)


def _erased_rows(
    encoders: Encoders,
    pairs: Sequence[tuple[str, str | Sequence[str]]],
    words: Mapping[str, Sequence[str]],
    ways: Ways,
    tokens: Tokens,
) -> dict[str, Rows]:
    """Those of the `words` of each concept that has some: itself, and what is erased with it. Concepts of the same
    sentences are encoded together."""
    alike: dict[tuple[str, ...], list[tuple[str, str | Sequence[str]]]] = {}
    for concept, guide in pairs:
        if not words[concept]:
            continue
        alike.setdefault(tuple(ways.templates(concept)), []).append((concept, guide))
    made: dict[str, Rows] = {}
    for templates, mine in alike.items():
        asked = [(word, guide) for concept, guide in mine for word in words[concept]]
        rows = iter(ConceptRows(encoders, templates, tokens).some(asked))
        made |= {concept: Rows.joined([next(rows) for _ in words[concept]]) for concept, _ in mine}
    return made


def _pictured_rows(
    shown: Pictured, stream: int, pairs: Sequence[tuple[str, str | Sequence[str]]], ways: Ways, tokens: Tokens
) -> dict[str, Rows]:
    """Those of each concept that is known from pictures."""
    return {
        concept: shown.rows(stream, learned, guide, ways.templates(concept), tokens)
        for concept, guide in pairs
        if (learned := shown.of_word(concept)) is not None
    }


def _kept_rows(shown: Pictured, rows: Mapping[str, Rows]) -> Tensor | None:
    """Rows of what masks leave: what is masked becomes them, and they stay."""
    kept = [own.target for concept, own in rows.items() if shown.is_masked(concept)]
    return torch.cat(kept) if kept else None


def _said(some: Sequence[str], synonym: MoreWords) -> list[str]:
    """Of the words that mean a concept known from pictures alone, those that the user named."""
    said = set(words_in(synonym))
    return [word for word in some if word in said]


def _found_rows(encoders: Encoders, prompts: Sequence[str], guide: str | Sequence[str]) -> Rows | None:
    """All rows of prompts that brought a concept back: a found prompt has no subject."""
    if not prompts:
        return None
    return Rows.joined([concept_rows(encoders, prompt, guide, ("{}",), "all") for prompt in prompts])


def _one_each(concepts: Sequence[str], guides: Sequence[str]) -> list[str]:
    if len(guides) == 1:
        return list(guides) * len(concepts)
    if len(guides) != len(concepts):
        raise EditkitError(
            f"{len(concepts)} concepts but {len(guides)} guides; give one guide, or one for each concept"
        )
    return list(guides)
