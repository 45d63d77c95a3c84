"""`compose --fuse` of LoRAs: against a naive least squares, and what it keeps that their sum does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import editkit
from editkit.concepts.templates import fill
from editkit.edits.low_rank import LowRank
from editkit.edits.protect import ProtectedWords
from editkit.edits.tuned import Tuned
from editkit.erasure.rows import vocabulary_rows
from editkit.errors import EditkitError
from editkit.model.checkpoints.projections import fingerprint
from editkit.model.editable import EditableModel, open_model
from editkit.variants.fuse_tuned import LAMB, STRENGTH, fused
from editkit.variants.tuned_file import load_tuned, save_tuned
from tests.cases import randn
from tests.cli import run

CONCEPTS, WORDS = ("church", "trumpet"), ["dog", "house", "guitar", "boat", "castle"]


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


def lora(model: EditableModel, concept: str, rank: int = 2) -> Tuned:
    """A random change of all projections, as `refine` would write it."""
    factors = {
        name: LowRank(
            randn(len(concept) + n, len(W), rank).float() / 50,
            randn(100 * len(concept) + n, rank, W.shape[1]).float() / 50,
        )
        for n, (name, W) in enumerate(model.projections.items())
    }
    record = {
        "method": "mace", "concepts": [concept], "guides": [""], "family": "emoji",
        "text_encoder_sha256": model.text_encoder_sha256,
    }  # fmt: skip
    record["family"] = model.source.family.name
    return Tuned({}, factors, {name: fingerprint({name: model.projections[name]}) for name in factors}, record)


def rows_of(model: EditableModel, concept: str) -> Tensor:
    """From the first token of the concept to the end, in every template."""
    encoder, parts = model.encoder, []
    for template in model.profile.templates_for(concept):
        rows = encoder.encode([fill(template, concept)])[0]
        parts.append(rows[encoder.tokens(fill(template, concept)).index(encoder.tokens(concept)[1]) :])
    return torch.cat(parts).double()


def test_it_is_the_least_squares_layer_by_layer() -> None:
    """Stacked and solved row by row; a part that lacks a layer asks nothing of it but to stay."""
    d, sizes = 12, (3, 5)
    rows = [randn(n, size, d) for n, size in enumerate(sizes)]
    held = ProtectedWords(("one", "other"), (randn(7, 2, d), randn(8, 4, d)))
    parts = [
        Tuned(
            {}, {name: LowRank(randn(10 * n + len(name), 4, 1), randn(20 * n + len(name), 1, d)) for name in names}, {}
        )
        for n, names in enumerate((["k", "val"], ["k"]))
    ]
    made = fused(parts, ["k", "val"], rows, held)
    for name in ("k", "val"):
        changes = [
            part.factors[name].up @ part.factors[name].down if name in part.factors else torch.zeros(4, d).double()
            for part in parts
        ]
        left, right = [], []
        for C, change in zip(rows, changes, strict=True):
            for c in C:
                left.append(c / sum(sizes) ** 0.5)
                right.append(change @ c / sum(sizes) ** 0.5)
        for word in held.rows:
            for p in word:
                left.append(p * (STRENGTH / len(held.words) / len(word)) ** 0.5)
                right.append(torch.zeros(4).double())
        left += list(LAMB**0.5 * torch.eye(d).double())
        right += [torch.zeros(4).double()] * d
        wanted = torch.linalg.lstsq(torch.stack(left), torch.stack(right)).solution.T
        assert torch.allclose(made[name].up @ made[name].down, wanted, rtol=1e-8, atol=1e-10), name
    assert made["k"].up.shape == (4, 2) and made["val"].up.shape == (4, 1)


def test_each_keeps_what_it_does_to_its_concept_and_other_words_stay(model: EditableModel, tmp_path: Path) -> None:
    parts = [lora(model, concept) for concept in CONCEPTS]
    both = editkit.fuse_tuned(parts, model, tmp_path / "both.safetensors", WORDS)
    again = editkit.fuse_tuned(parts[::-1], model, vocabulary=WORDS)
    words = torch.cat(vocabulary_rows([model.encoder], WORDS, ("{}", "a {}")).rows).double()
    missed, missed_by_sum, moved, moved_by_sum = 0.0, 0.0, 0.0, 0.0
    for name in model.projections:
        own = [part.factors[name].up.double() @ part.factors[name].down.double() for part in parts]
        change, plain = both.factors[name].up.double() @ both.factors[name].down.double(), own[0] + own[1]
        assert torch.equal(both.factors[name].down, again.factors[name].down)
        for each, concept in zip(own, CONCEPTS, strict=True):
            C = rows_of(model, concept).T
            missed += float(((change - each) @ C).square().sum() / (each @ C).square().sum())
            missed_by_sum += float(((plain - each) @ C).square().sum() / (each @ C).square().sum())
        moved += float((change @ words.T).square().sum())
        moved_by_sum += float((plain @ words.T).square().sum())
    assert missed < 0.1 * missed_by_sum and moved < 0.01 * moved_by_sum
    figures = both.record["figures"]
    assert 0 < figures["fusion_residual"] < 0.3 and figures["damage_words"] == len(WORDS)
    read = load_tuned(tmp_path / "both.safetensors")
    assert read.record["concepts"] == ["church", "trumpet"] and len(read.record["parts"]) == 2
    assert all(torch.equal(read.factors[name].up, change.up) for name, change in both.factors.items())


def test_its_figures_are_what_it_leaves_and_what_it_does_to_words(model: EditableModel) -> None:
    parts = [lora(model, concept) for concept in CONCEPTS]
    both = editkit.fuse_tuned(parts, model, vocabulary=["dog"])
    assert both.record["guides"] == ["", ""] and both.record["options"] == {"lamb": LAMB, "strength": STRENGTH}
    shares = []
    for part, concept in zip(parts, CONCEPTS, strict=True):
        C = rows_of(model, concept).T
        pairs = [
            ((both.factors[name].up.double() @ both.factors[name].down.double() - own) @ C, own @ C)
            for name, change in part.factors.items()
            for own in [change.up.double() @ change.down.double()]
        ]
        shares.append((sum(a.square().sum() for a, _ in pairs) / sum(b.square().sum() for _, b in pairs)) ** 0.5)
    assert both.record["figures"]["fusion_residual"] == pytest.approx(float(max(shares)), rel=1e-4)
    P = vocabulary_rows([model.encoder], ["dog"], model.profile.sentences_for("dog")).rows[0].double().T
    changed, size = 0.0, 0.0
    for name, W in model.projections.items():
        changed += float((both.factors[name].up.double() @ both.factors[name].down.double() @ P).square().sum())
        size += float((W.double() @ P).square().sum())
    assert both.record["figures"]["damage_worst"] == pytest.approx(changed / size, rel=1e-3)


def test_what_cannot_be_fused_is_said(model: EditableModel, tmp_path: Path) -> None:
    one, other = (lora(model, concept) for concept in CONCEPTS)
    name, change = next(iter(one.factors.items()))

    def refused(match: str, *parts: Any) -> None:
        with pytest.raises(EditkitError, match=match):
            editkit.fuse_tuned(parts, model, vocabulary=WORDS)

    refused("expected two results of refine or more, got 1", one)
    refused("concept 'church' is in two of them", one, one)
    whole = replace(one, tensors={name: model.projections[name]}, factors={}, base={name: one.base[name]})
    refused("whole tensors were trained for church; give LoRAs, such as --param kv.lora:1 makes", whole, other)
    refused("'church' was trained by pictures", replace(one, record={**one.record, "pictures": {"church": {}}}), other)
    query = name.replace("to_k", "to_q").replace("to_v", "to_q")
    W = model.tensors(replace(one, factors={query: change}, base={query: ""}))[query]
    trained = replace(
        one,
        factors={query: LowRank(change.up[:, :1], torch.zeros(1, W.shape[1]))},
        base={query: fingerprint({query: W})},
    )
    refused(f"{query} was trained for church and does not read the prompt alone", trained, other)
    (tmp_path / "taken.safetensors").write_text("not an edit")
    with pytest.raises(EditkitError, match="exists"):
        editkit.fuse_tuned([one, other], model, tmp_path / "taken.safetensors", WORDS)


def test_the_command_fuses_what_was_trained(model: EditableModel, tmp_path: Path) -> None:
    for concept in CONCEPTS:
        save_tuned(lora(model, concept), tmp_path / f"{concept}.safetensors")
    files = [f"{concept}.safetensors" for concept in CONCEPTS]
    said = run("compose", *files, "--fuse", "--out", "both.safetensors", cwd=tmp_path)
    assert "fuse: church → nothing, trumpet → nothing" in said and "left of what was asked" in said
    assert load_tuned(tmp_path / "both.safetensors").record["method"] == "fuse"
