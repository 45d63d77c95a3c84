"""OCE against its formula, layer by layer: rotations of values that are one map on embeddings in each layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file

import editkit
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import jobs
from editkit.edits.edit import Edit
from editkit.edits.gram import gram_matrix
from editkit.edits.method import Options
from editkit.edits.oce import nearest_orthogonal, turned
from editkit.errors import EditkitError
from editkit.variants.export import export
from tests import reference
from tests.cases import eye, forall, plain, randn
from tests.test_closed_form import assert_same_weights, make_case, weights_of
from tests.test_pictures import pictures

OUTS = (8, 16, 24, 40)
"""Fewer outputs than inputs, as many, and more, where the inputs are 16."""


@pytest.mark.parametrize("d", [16, 64])
@pytest.mark.parametrize("concepts", [1, 4])
@pytest.mark.parametrize("erase", [0.5, 20.0])
@pytest.mark.parametrize("keep", [0.0, 2.0])
def test_it_is_the_formula_layer_by_layer(d: int, concepts: int, erase: float, keep: float) -> None:
    case = make_case(d, concepts, "last", OUTS)
    P = case.preserve if keep else None
    options = plain("oce", "none", lamb=0.3, erase_scale=erase, preserve_scale=keep or 1.0)
    held = 0.3 * eye(d) + keep * case.preserve.T @ case.preserve
    C, T = (torch.cat(rows) for rows in zip(*case.pairs, strict=True))
    expected = reference.oce(case.weights, C, T, held, erase)
    assert_same_weights(weights_of(options.solve(case.problem(P)), case), expected)


@forall(st.integers(2, 12), st.integers(1, 18), st.integers(0, 2**31))
def test_lengths_and_angles_of_values_stay(d: int, o: int, seed: int) -> None:
    W, C, T, P = randn(seed, o, d), randn(seed + 1, 2, d), randn(seed + 2, 2, d), randn(seed + 3, 5, d)
    M = turned(W, C, T, P.T @ P + 0.1 * eye(d), 3.0, 1e-3)
    G, after = (gram_matrix([each], d) for each in (W, M.weight(W)))
    assert torch.allclose(after, G, atol=1e-10 * float(G.norm()))


@forall(st.integers(2, 10), st.integers(0, 2**31))
def test_what_turns_the_values_is_a_rotation_where_the_layer_has_no_more_outputs(d: int, seed: int) -> None:
    W, C, T = randn(seed, d - 1, d), randn(seed + 1, 1, d), randn(seed + 2, 1, d)
    R = turned(W, C, T, 0.1 * eye(d), 3.0, 1e-3).weight(W) @ torch.linalg.pinv(W)
    assert torch.allclose(R @ R.T, eye(d - 1), atol=1e-10)
    assert float(torch.linalg.det(R)) == pytest.approx(1, abs=1e-8)


@forall(st.integers(2, 6), st.integers(0, 2**31))
def test_no_rotation_is_nearer_and_a_reflection_is_only_where_it_may_be(n: int, seed: int) -> None:
    A = randn(seed, n, n)
    A[0] *= -torch.linalg.det(A).sign()  # the nearest of all is a reflection
    free, proper = nearest_orthogonal(A), nearest_orthogonal(A, proper=True)
    assert float(torch.linalg.det(free)) == pytest.approx(-1)
    assert float(torch.linalg.det(proper)) == pytest.approx(1)
    least = torch.linalg.svdvals(A)[-1]
    assert float((free * A).sum() - (proper * A).sum()) == pytest.approx(2 * float(least))
    published = free.clone()
    published[:, -1] *= -1  # its code: a rotation, but not the nearest
    skew = [randn(seed + k, n, n) for k in range(1, 40)]
    rotations = [torch.linalg.matrix_exp(X - X.T) for X in skew]
    for Q in (published, *rotations):
        assert float((Q * A).sum()) <= float((proper * A).sum()) + 1e-9


def test_a_singular_matrix_has_no_one_rotation() -> None:
    with pytest.raises(EditkitError, match=r"not unique.*a larger --lamb"):
        nearest_orthogonal(torch.ones(3, 3, dtype=torch.float64))


@pytest.mark.parametrize("rank", [0, 3])
def test_a_layer_that_reads_little_is_turned_in_what_it_reads(rank: int) -> None:
    W = randn(0, 6, rank) @ randn(1, rank, 8)
    M = turned(W, randn(2, 1, 8), randn(3, 1, 8), eye(8), 5.0)
    assert M.rank <= rank and torch.allclose(M.dense().T @ W.T @ W @ M.dense(), W.T @ W, atol=1e-9)


def test_a_vocabulary_holds_words_and_its_weight_more_of_them() -> None:
    damages = [
        editkit.erase("emoji", ["church"], options=options, checked=False).record["figures"]["damage_mean"]
        for options in (Options("oce", protect="none"), Options("oce"), Options("oce", strength=100.0))
    ]
    assert damages[0] > damages[1] > damages[2] > 0


@pytest.fixture(scope="module")
def edit() -> Edit:
    return editkit.erase("emoji", ["church"], options=Options("oce"))


def test_the_file_gives_the_same_weights_and_only_values_change(edit: Edit, tmp_path: Path) -> None:
    editkit.save_edit(edit, tmp_path / "e.safetensors")
    again, model = editkit.load_edit(tmp_path / "e.safetensors"), editkit.open_model("emoji")
    base = {name: W.double() for name, W in model.projections.items()}
    made, read = edit.weights(base), again.weights(base)
    assert {*made} == {*read} == {name for name in base if "to_v" in name}
    for name, W in made.items():
        assert float((read[name] - W).norm() / W.norm()) < 1e-6
        assert float((W.T @ W - base[name].T @ base[name]).norm() / (W.T @ W).norm()) < 1e-10


def test_it_is_drawn_exported_scaled_and_composed_like_any_other(edit: Edit, tmp_path: Path) -> None:
    model = editkit.open_model("emoji")
    export(edit, model, tmp_path / "kv.safetensors")
    assert {*load_file(tmp_path / "kv.safetensors")} == {*edit.maps}
    half, both = editkit.compose([edit], scale=0.5), editkit.compose([edit, editkit.erase(model, ["boat"])])
    drawn = pictures(open_denoiser("emoji"), jobs(["a church"], [0], 4), [None, edit, half, both])
    assert len({picture.tobytes() for picture in drawn}) == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hard": True}, "--hard: --method oce rotates"),
        ({"perturb": 2}, "--perturb: --method oce rotates"),
        ({"protect": "minimax"}, "--protect: must be one of prior, none"),
        ({"protect": "null"}, "--protect: must be one of prior, none"),
        ({"lamb": 0.0}, "--lamb: expected a finite number above 0"),
    ],
)
def test_what_it_cannot_do_it_says(given: dict[str, Any], said: str) -> None:
    with pytest.raises(EditkitError, match=said):
        Options("oce", **given)


def test_found_prompts_a_gate_and_a_fusion_are_refused(edit: Edit) -> None:
    with pytest.raises(EditkitError, match="not of found prompts; use --method uce"):
        editkit.erase("emoji", ["church"], options=Options("oce"), found={"church": ["a tall house"]})
    with pytest.raises(EditkitError, match="harden: --method oce erases no found prompts; use --method uce"):
        editkit.harden(edit, "emoji", pictures=0)
    with pytest.raises(EditkitError, match=r"a map of its own for each layer; .* not with --method oce"):
        editkit.gated("emoji", edit, ["a dog"])
    with pytest.raises(EditkitError, match="of church has a map of its own for each layer"):
        editkit.fuse([edit, editkit.erase("emoji", ["trumpet"])], "emoji")


def test_what_lies_near_a_concept_turns_with_it_and_is_no_reason_to_refuse() -> None:
    erased = ["videocassette", "church", "delivery truck", "parachute", "trumpet"]
    figures = editkit.erase("emoji", erased, options=Options("oce")).record["figures"]
    assert figures["damage_mean"] < 1 < figures["damage_worst"] < 4
