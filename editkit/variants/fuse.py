"""`editkit compose --fuse`: the joint answer from finished edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from editkit.concepts.templates import EXPANSIONS
from editkit.edits.edit import Edit, check_ungated
from editkit.edits.method import Method, Options
from editkit.edits.problem import Rows
from editkit.erasure.make import Request, make_edit, words_of
from editkit.erasure.rows import concept_rows
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, ModelLike, Stream, open_model
from editkit.variants.edit_file import load_linear, save_edit
from editkit.variants.fit import check_fit


def fuse(
    edits: Sequence[Edit | Path | str],
    model: ModelLike = None,
    out: Path | str | None = None,
    options: Method | None = None,
    vocabulary: Sequence[str] | None = None,
    checked: bool = True,
    force: bool = False,
) -> Edit:
    """One edit that does to the concepts of each what that one does, solved for all at once.

    `M = I + Σ_i (M_i − I) C_iᵀC_i B⁻¹` with `B = Σ_i C_iᵀC_i + penalty`: the fusion of MACE (Lu et al. 2024), for maps
    on embeddings. That is the ridge regression with the targets `M_i C_i`; where each edit sends its rows to its guides
    it is the edit of all concepts together. Applied one after another, edits disturb each other instead. `fuse_tuned`
    fuses LoRAs that were trained.

    Args:
        edits: edits of `erase` or `edit`, or their files; their order does not matter.
        model: the model that they were made for: their rows are encoded anew.
        out: file to write, or None.
        options: protection, ridge and weights of the solve; default: `Options("uce")`.
        vocabulary: words to protect. Default: the words of the model's profile.
        checked: refuse an edit that blows up; else warn of it.
        force: replace an edit file that is at `out`.

    Raises:
        EditkitError: fewer than two edits, edits of other models or with a map of each layer, a concept in two of them,
            or `out` is there already.

    >>> from editkit.erasure.erase import erase
    >>> words = ["dog", "house", "guitar"]
    >>> some = [erase("emoji", [word], vocabulary=words) for word in ("church", "trumpet")]
    >>> both = fuse(some, "emoji", vocabulary=words)
    >>> both.record["method"], both.record["concepts"]
    ('fuse', ['church', 'trumpet'])
    """
    model, options = open_model(model), options or Options("uce")
    read = sorted((_read(edit, model) for edit in edits), key=lambda edit: edit.record["concepts"])
    concepts = [concept for edit in read for concept in edit.record["concepts"]]
    guides = [guide for edit in read for guide in edit.record["guides"]]
    preserve = list(dict.fromkeys(prompt for edit in read for prompt in edit.record["preserve"]))
    _check(read, concepts)
    same = {concept: words for edit in read for concept, words in edit.record.get("synonyms", {}).items()}
    words = words_of(model, options, concepts, guides, vocabulary, [word for some in same.values() for word in some])
    request = Request(model, options, concepts, guides, preserve, words, checked, same)
    with request.clock("embeddings"):
        rows = [[each for edit in read for each in _rows(edit, model, stream)] for stream in model.streams]
    solved = make_edit(request, rows)
    fused = replace(solved, record={**solved.record, "method": "fuse", "parts": [dict(edit.record) for edit in read]})
    if out is not None:
        save_edit(fused, Path(out), force)
    return fused


def _read(edit: Edit | Path | str, model: EditableModel) -> Edit:
    read = edit if isinstance(edit, Edit) else load_linear(edit)
    check_ungated(read)
    check_fit(read, model)
    return read


def _check(edits: Sequence[Edit], concepts: Sequence[str]) -> None:
    if len(edits) < 2:
        raise EditkitError(f"compose --fuse: expected two edits or more, got {len(edits)}")
    twice = next((concept for concept in concepts if concepts.count(concept) > 1), None)
    if twice is not None:
        raise EditkitError(f"compose --fuse: concept {twice!r} is in two edits; leave one of them out")
    for edit in edits:
        if edit.record.get("from"):
            raise EditkitError(
                f"compose --fuse: the edit of {', '.join(edit.record['concepts'])} erases from one thing alone, and "
                "what is fused goes everywhere; compose it without --fuse"
            )
        if "pictures" in edit.record:
            raise EditkitError(
                f"compose --fuse: {next(iter(edit.record['pictures']))!r} was erased by pictures, so its rows are not "
                "known; erase all at once with --picture, or compose without --fuse"
            )
        if "options" not in edit.record:
            raise EditkitError(
                f"compose --fuse: the edit of {', '.join(edit.record['concepts'])} was composed, so its rows are not "
                "known; give the edits that it was composed of"
            )


def _rows(edit: Edit, model: EditableModel, stream: Stream) -> list[Rows]:
    """The rows of each concept, and what the edit makes of them."""
    M, record = model.map_of(edit, stream), edit.record
    if M is None:
        raise EditkitError(
            f"compose --fuse: the edit of {', '.join(record['concepts'])} has a map of its own for each layer; "
            "only edits with one map for all layers can be fused"
        )
    given = record["options"]
    protected = given.get("protect", "none") != "none"
    made = []
    for concept in record["concepts"]:
        own = model.profile.templates_for(concept)
        templates = own if protected else EXPANSIONS[given.get("expand", "none")]
        parts = [
            concept_rows(stream.encoders, prompt, prompt, as_said, tokens).source
            for prompt, as_said, tokens in _prompts(record, concept, templates)
        ]
        made.append(Rows.joined([Rows(rows, M.embeddings(rows.double())) for rows in parts]))
    return made


def _prompts(record: Mapping[str, Any], concept: str, templates: Sequence[str]) -> list[tuple[str, Sequence[str], Any]]:
    """What was erased under a concept's name: text, templates, and which rows."""
    own = [concept, *record.get("synonyms", {}).get(concept, ())]
    found = record.get("found", {}).get(concept, ())
    return [(word, templates, record["options"]["tokens"]) for word in own] + [(text, ("{}",), "all") for text in found]
