"""`compose --fuse`: finished edits, solved for together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import editkit
from editkit.edits.method import Method
from editkit.erasure.rows import concept_rows
from editkit.errors import EditkitError
from editkit_cli.main import app

CONCEPTS = ("church", "trumpet")


def options(method: str, **given: float) -> Method:
    return editkit.Options(method, protect="none", tokens="last", lamb=0.1, **given)


def erased(concepts: Sequence[str], made: Method, guide: str = "house") -> editkit.Edit:
    return editkit.erase("emoji", concepts, [guide], options=made, checked=False)


def test_it_is_the_formula_of_mace_layer_by_layer() -> None:
    model, edits = editkit.open_model("emoji"), [erased([concept], options("uce")) for concept in CONCEPTS]
    fused = editkit.fuse(edits, model, options=options("uce"), checked=False)
    rows = [concept_rows([model.encoder], concept, concept, ("{}",), "last").source for concept in CONCEPTS]
    B = sum((C.T @ C for C in rows), 0.1 * torch.eye(512, dtype=torch.float64))
    for name, W in model.projections.items():
        W = W.double()
        expected = W.clone()
        for edit, C in zip(edits, rows, strict=True):
            expected += (edit.map.weight(W) - W) @ C.T @ C @ torch.linalg.inv(B)
        assert float((fused.map.weight(W) - expected).norm()) < 1e-8 * float(W.norm()), name


def test_of_edits_that_reach_their_guides_it_is_the_joint_edit() -> None:
    exact = [erased([concept], options("dp")) for concept in CONCEPTS]
    fused = editkit.fuse(exact, "emoji", options=options("uce"), checked=False).map.dense()
    joint = erased(CONCEPTS, options("uce")).map.dense()
    assert float((fused - joint).norm()) < 1e-6 * float((joint - torch.eye(512)).norm())


def test_it_keeps_the_vocabulary_and_does_not_mind_the_order(tmp_path: Path) -> None:
    edits = [editkit.erase("emoji", [word], options=editkit.Options("uce")) for word in CONCEPTS]
    fused = editkit.fuse(edits, "emoji", tmp_path / "both.safetensors")
    again = editkit.fuse(edits[::-1], "emoji")
    assert torch.equal(fused.map.dense(), again.map.dense())
    assert fused.record["figures"]["damage_worst"] < 0.1 and fused.record["figures"]["erasure_residual"] < 0.15
    joint = editkit.erase("emoji", CONCEPTS, options=editkit.Options("uce"))
    rows = concept_rows([editkit.open_model("emoji").encoder], "church", "church", ("a {}",), "tail").source
    apart = (fused.map.embeddings(rows) - joint.map.embeddings(rows)).norm()
    assert float(apart) < 0.2 * float((joint.map.embeddings(rows) - rows).norm())
    assert editkit.load_edit(tmp_path / "both.safetensors").record["parts"][1]["concepts"] == ["trumpet"]


def test_what_cannot_be_fused_is_said() -> None:
    one, other = (erased([word], options("uce")) for word in CONCEPTS)
    layers = erased(["church"], editkit.Options("uce", protect="none", technique="tensor"))
    with pytest.raises(EditkitError, match="expected two edits or more, got 1"):
        editkit.fuse([one], "emoji")
    with pytest.raises(EditkitError, match="concept 'church' is in two edits"):
        editkit.fuse([one, one], "emoji")
    with pytest.raises(EditkitError, match="was composed, so its rows are not known"):
        editkit.fuse([editkit.compose([one, erased(["boat"], options("uce"))]), other], "emoji")
    with pytest.raises(EditkitError, match="of church has a map of its own for each layer"):
        editkit.fuse([layers, other], "emoji", options=options("uce"), checked=False)


def test_the_command_fuses_and_names_what_does_not_go_together(tmp_path: Path) -> None:
    files = []
    for concept in CONCEPTS:
        files.append(str(tmp_path / f"{concept}.safetensors"))
        editkit.save_edit(editkit.erase("emoji", [concept]), Path(files[-1]))
    run = CliRunner().invoke
    out = str(tmp_path / "both.safetensors")
    assert "fuse, protect minimax: church → average, trumpet → average" in " ".join(
        run(app, ["compose", *files, "--fuse", "--out", out]).output.split()
    )
    again = run(app, ["compose", *files, "--fuse", "--out", out])
    assert again.exit_code != 0
    for more in (["--fuse", "--scale", "0.5"], ["--model", "emoji"]):
        refused = run(app, ["compose", *files, *more, "--out", str(tmp_path / "x.safetensors")])
        assert refused.exit_code != 0 and isinstance(refused.exception, EditkitError)
