"""`erase --from`: rows that have read both words move to those of Y alone; what has read one of them stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import editkit
from editkit.edits.method import Options
from editkit.emoji.bound_table import as_markdown
from editkit.erasure.bound import Bound
from editkit.erasure.edit import aligned_rows
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.variants.fuse import fuse
from tests.cli import run

ROOT = Path(__file__).parent.parent
PRIOR = Options("uce", protect="prior")


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


@pytest.fixture(scope="module")
def noto(model: EditableModel) -> editkit.Edit:
    return editkit.erase(model, ["noto"], options=PRIOR, of=["church"])


def bound(model: EditableModel, concept: str, of: str, phrase: str | None, *others: str) -> Bound:
    return Bound.make(model.profile, concept, [of], phrase, others)


def encoded(model: EditableModel, *prompts: str) -> list[Tensor]:
    return model.encoder.encode(prompts)


def way(edit: editkit.Edit, model: EditableModel, source: str, target: str, start: int) -> float:
    """How far of the way from the rows of `source`, from `start` on, to those of `target` an edit takes keys and
    values."""
    rows = aligned_rows([model.encoder], source, target)
    mine, theirs = rows.source[start:].double(), rows.target[start:].double()
    change, wanted = edit.map.embeddings(mine) - mine, theirs - mine
    return float((change @ model.gram * wanted).sum() / (wanted @ model.gram * wanted).sum())


def test_with_y_first_the_rows_from_x_on_become_those_behind_y(model: EditableModel) -> None:
    one = bound(model, "noto", "church", None, "fluent", "twemoji")
    assert one.phrase == "{y} in the style of {x}" and all("style" not in each for each in one.templates)
    both, alone = encoded(model, "a church in the style of noto", "a church")
    length = model.encoder.length
    ids = model.encoder.tokens("a church in the style of noto"), model.encoder.tokens("a church")
    at = len(ids[0]) - 2  # noto is one token here, the last before the end token
    rows = Bound(one.concept, one.of, one.phrase, ("a {}",), one.others).rows([model.encoder])
    assert torch.equal(rows.source, both[at:])
    end = len(ids[1]) - 1
    expected = [end, *(min(end + n, length - 1) for n in range(length - at - 1))]
    assert torch.equal(rows.target, alone[expected])


def test_with_x_first_its_own_row_cannot_be_told_from_elsewhere_and_stays(model: EditableModel) -> None:
    one = bound(model, "woman", "cook", None, "man", "dog")
    assert one.phrase == "{x} {y}"
    both, alone, other = encoded(model, "a woman cook", "a cook", "a woman pilot")
    assert torch.allclose(both[2], other[2], atol=1e-5)  # a causal encoder has not read what comes
    rows = Bound(one.concept, one.of, one.phrase, ("a {}",), one.others).rows([model.encoder])
    assert torch.equal(rows.source, both[3:])
    assert torch.equal(rows.target[:2], alone[2:4])  # "cook" and the end token, one place further on


def test_x_of_y_goes_and_what_names_one_of_them_stays(model: EditableModel, noto: editkit.Edit) -> None:
    start = len(model.encoder.tokens("a church in the style of noto")) - 2
    went = way(noto, model, "a church in the style of noto", "a church", start)
    assert went > 0.8
    for thing in ("dog", "guitar", "robot"):
        assert way(noto, model, f"a {thing} in the style of noto", f"a {thing}", start) < went / 2
    for style in ("fluent", "twemoji"):
        assert way(noto, model, f"a church in the style of {style}", "a church", start) < went / 5
    figures = noto.record["figures"]
    assert figures["damage_words"] > 2 * len(model.own_words()) - 20 and figures["damage_mean"] < 0.03


def test_the_record_says_from_what(noto: editkit.Edit) -> None:
    record = noto.record
    assert (record["concepts"], record["from"], record["guides"]) == (["noto"], ["church"], ["church"])
    assert record["phrase"] == "{y} in the style of {x}" and record["synonyms"] == {"church": ["chapel"]}


def test_the_command_line_does_the_same(noto: editkit.Edit, tmp_path: Path) -> None:
    said = run("erase", "--concept", "noto", "--from", "church", "--protect", "prior", cwd=tmp_path)
    assert "noto of church alone → church" in said
    read: Any = editkit.load_edit(tmp_path / "noto-from-church-uce.safetensors")
    assert torch.allclose(read.map.dense(), noto.map.dense(), atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"options": Options("uce", protect="none")}, "--from: .* got --protect none; give --protect minimax"),
        (
            {"options": Options("uce", tokens="eot")},
            "--from: takes the rows that have read both words, got --tokens eot",
        ),
        ({"guides": ["a"]}, "--guide: with --from"),
        ({"phrase": "{x} of {z}"}, r"--phrase '\{x\} of \{z\}': expected '\{x\}'"),
        ({"of": (), "phrase": "{x} {y}"}, "--phrase: says how .* --from"),
        ({"of": ["chruch"]}, "did you mean church"),
        ({"found": {"noto": ["x"]}}, "found prompts are erased everywhere"),
    ],
)
def test_what_cannot_be_is_said(given: dict[str, Any], message: str, model: EditableModel) -> None:
    with pytest.raises(EditkitError, match=message):
        editkit.erase(model, ["noto"], **{"of": ["church"], **given})


def test_what_makes_an_edit_again_everywhere_refuses_it(model: EditableModel, noto: editkit.Edit) -> None:
    with pytest.raises(EditkitError, match=r"harden: .* without --from"):
        editkit.harden(noto, model, pictures=0)
    with pytest.raises(EditkitError, match="erases from one thing alone"):
        fuse([noto, replace(noto, record={**noto.record, "concepts": ["fluent"]})], model)


def test_the_findings_state_what_was_measured() -> None:
    results = json.loads((ROOT / "tests" / "bench" / "bound.json").read_text())
    assert as_markdown(results).strip() in (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")


def test_an_encoder_that_reads_both_ways_tells_all_rows_apart(tiny_streams: Callable[[str], Path]) -> None:
    """T5 of FLUX.1: even the row of X has read Y, so it moves; its pooled CLIP has one row."""
    model = open_model(tiny_streams("flux1"))
    one = Bound("woman", ("cook",), "{x} {y}", ("a {}",), ("man", "dog"))
    for stream in model.streams:
        (encoder,) = stream.encoders
        rows = one.rows([encoder])
        (both,) = encoder.encode(["a woman cook"])
        assert torch.equal(rows.source, both) and rows.target.shape == both.shape
    words = ["mosque", "castle", "dog", "rose"]
    options = Options("uce", protect="prior")
    made = editkit.erase(model, ["woman"], of=["cook"], options=options, vocabulary=words, checked=False)
    assert len(made.maps) == len(model.streams) and made.record["figures"]["erasure_residual"] < 1
