"""A gate: neutral prompts pass an edit by to the bit, and whoever attacks the model attacks the gate."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import editkit
from editkit.drawing.pipelines import denoiser_of
from editkit.drawing.pipelines.denoiser import Denoiser
from editkit.drawing.sampler import VariantPrompts, draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.edit import Edit
from editkit.edits.gate import CLOSED, CONFIDENCE, Gate, least, threshold
from editkit.emoji.gate_table import as_markdown, missed_as_markdown
from editkit.emoji.neutral import neutral_captions
from editkit.errors import EditkitError
from editkit.gating.gated import gated
from editkit.redteam.arena import Arena
from editkit.redteam.cost import Cost
from editkit.redteam.embedding import Embedding
from editkit.redteam.prompt import PromptSearch
from editkit.redteam.target import Target
from editkit.redteam.victim import Victim
from editkit.variants.edit_file import load_edit, load_linear, save_edit
from editkit.variants.named import BASE, behind_gate
from editkit.variants.record import GATED_VERSION, read_record
from tests.cases import randn
from tests.cli import run

CAPTIONS = neutral_captions(330, seed=3)
EPS = 0.05
pytestmark = pytest.mark.filterwarnings("ignore:the threshold comes from")


@pytest.fixture(scope="module")
def edit() -> Edit:
    return editkit.erase("emoji", ["church"], options=editkit.Options("uce", protect="none"))


@pytest.fixture(scope="module")
def behind(edit: Edit) -> Edit:
    return gated("emoji", edit, CAPTIONS, EPS)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return denoiser_of(editkit.load("emoji"))


def gate_of(edit: Edit) -> Gate:
    assert edit.gate is not None
    return edit.gate


def with_threshold(edit: Edit, tau: float) -> Edit:
    return replace(edit, gate=replace(gate_of(edit), tau=tau))


@pytest.mark.parametrize(("n", "eps"), [(59, 0.05), (400, 0.05), (1000, 0.01)])
def test_of_others_like_them_no_more_open_it_than_was_said(n: int, eps: float) -> None:
    draws = 1000
    made = torch.Generator().manual_seed(n)
    taus = torch.tensor([threshold(torch.rand(n, generator=made), eps) for _ in range(draws)])
    # Of uniform hits a share tau lies below tau.
    failed = float((taus < 1 - eps).double().mean())
    assert failed <= 1 - CONFIDENCE + 3 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / draws)
    fresh = torch.rand(draws, generator=made) > taus
    assert float(fresh.double().mean()) <= eps + 3 * math.sqrt(eps / draws)
    hits = torch.rand(n, generator=made).sort().values
    assert threshold(hits, eps) >= float(hits[math.ceil((1 - eps) * (n + 1)) - 1])  # the conformal quantile


@pytest.mark.parametrize("eps", [0.0, 1.0, -1.0])
def test_the_share_must_be_one_and_the_captions_enough(eps: float) -> None:
    with pytest.raises(EditkitError, match="--eps: expected a share between 0 and 1"):
        threshold(torch.arange(9.0), eps)
    with pytest.raises(EditkitError, match=f"needs {least(0.01)} neutral captions for the threshold, got 298"):
        threshold(torch.arange(298.0), 0.01)


def test_a_hit_is_a_cosine_and_depends_neither_on_the_batch_nor_on_padding() -> None:
    wanted = randn(1, 3, 8)
    gate = Gate.fit(list(randn(0, 20, 5, 8)), wanted)
    rows = randn(2, 7, 5, 8)
    hits = gate.hit(rows)
    assert bool((hits.abs() <= 1).all()) and torch.equal(hits, torch.cat([gate.hit(each[None]) for each in rows]))
    padded = torch.nn.functional.pad(rows, (0, 0, 0, 2))
    assert torch.allclose(gate.hit(padded), hits, atol=1e-12)
    assert gate.hit(wanted[:, None]).allclose(torch.ones(3).double(), atol=1e-6)
    assert gate.hit(torch.zeros(1, 5, 8)).tolist() == [CLOSED]
    assert not bool(gate.opens(wanted[:, None]).any()), "without a threshold nothing opens it"


def test_neutral_rows_are_white() -> None:
    rows = randn(3, 40, 6, 8) @ (torch.eye(8) + 0.3 * randn(4, 8, 8)) + 5
    gate = Gate.fit(iter(rows), rows[0, :1])
    seen = ((rows - gate.centre) @ gate.white).flatten(0, 1)
    assert torch.allclose(seen.T @ seen / len(seen), torch.eye(8).double(), atol=0.05)
    assert float(seen.mean(0).abs().max()) < 1e-5


def test_its_figures_are_in_the_record(behind: Edit) -> None:
    said = behind.record["gate"]
    assert said["n"] >= least(EPS) and said["tau"] == gate_of(behind).tau
    assert said["words"] == ["church", "chapel"] and said["captions"]["left_out"] > 0
    assert said["untouched"]["value"] >= 0.9 and said["untouched"]["low"] < said["untouched"]["value"]
    assert said["opened"]["value"] == 1 and said["missed"] == [] and 0 < said["milliseconds"] < 1000


def rows_of(denoiser: Denoiser, variants: list[Edit | None], prompt: str, negative: str) -> tuple[Tensor, ...]:
    """Unconditional rows of every variant, then conditional ones."""
    asked = jobs([prompt], [0], len(variants))
    text = VariantPrompts.of(denoiser, variants).encode(asked, negative).text
    return tuple(text)


def test_a_closed_prompt_is_read_as_unedited_and_an_open_one_as_edited(
    edit: Edit, behind: Edit, denoiser: Denoiser
) -> None:
    for prompt, is_open in (("a dog", False), ("a church", True), ("a chapel", True)):
        blank, blank_edit, blank_gate, base, edited, through = rows_of(
            denoiser, [None, edit, behind], prompt, "a church"
        )
        assert torch.equal(through, edited if is_open else base) and not torch.equal(edited, base)
        assert torch.equal(blank_gate, blank) and not torch.equal(blank_edit, blank), "negative prompts stay"


def test_pictures_of_closed_prompts_are_the_same_to_the_bit(edit: Edit, behind: Edit, denoiser: Denoiser) -> None:
    asked = jobs(["a dog", "a church", "a trumpet"], [0], 3)
    made = dict(draw(denoiser, asked, [None, edit, behind], Sampling(2, 3.0)))
    pictures = [[made[job].tobytes() for job in asked[start : start + 3]] for start in (0, 3, 6)]
    for base, edited, through in (pictures[0], pictures[2]):
        assert through == base != edited
    assert pictures[1][2] != pictures[1][0]


def test_a_pipeline_is_gated_and_what_it_was_afterwards(edit: Edit, behind: Edit, denoiser: Denoiser) -> None:
    pipe = denoiser.pipe

    def drawn(prompts: list[str]) -> list[bytes]:
        seeds = [torch.Generator().manual_seed(n) for n in range(len(prompts))]
        images = pipe(
            prompts, num_inference_steps=2, generator=seeds, negative_prompt=["a church"] * len(prompts)
        ).images
        return [image.tobytes() for image in images]

    before = drawn(["a dog", "a church"])
    with editkit.gate(pipe, behind) as installed:
        during = drawn(["a dog", "a church"])
        assert (installed.prompts, installed.opened) == (2, 1)
        with pytest.raises(EditkitError, match="has a gate already"):
            editkit.gate(pipe, behind)
    assert during[0] == before[0] and during[1] != before[1] and drawn(["a dog", "a church"]) == before
    with pytest.raises(EditkitError, match="captions: a gate's threshold needs"):
        editkit.gate(pipe, edit)
    with pytest.raises(EditkitError, match="a gate is no weights"), editkit.applied(pipe, behind):
        pass


def test_a_file_holds_the_gate_and_older_readers_refuse_it(behind: Edit, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_edit(behind, path)
    read = load_edit(path)
    assert isinstance(read, Edit) and read.record["format_version"] == GATED_VERSION
    rows = randn(5, 2, 4, 512)
    assert torch.equal(gate_of(read).hit(rows), gate_of(behind).hit(rows)) and gate_of(read).tau == gate_of(behind).tau
    assert (gate_of(read).eps, gate_of(read).n) == (EPS, gate_of(behind).n)
    save_edit(read.ungated, tmp_path / "b.safetensors")
    assert load_linear(tmp_path / "b.safetensors").gate is None and "gate" not in read_record(
        tmp_path / "b.safetensors"
    )
    damaged = replace(behind, gate=replace(gate_of(behind), white=torch.zeros(3, 3)))
    save_edit(damaged, tmp_path / "c.safetensors")
    with pytest.raises(EditkitError, match="its gate do not fit each other"):
        load_edit(tmp_path / "c.safetensors")


def test_nothing_makes_weights_of_a_gate(behind: Edit, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_edit(behind, path)
    for refused in (
        lambda: editkit.export(behind, editkit.open_model("emoji"), tmp_path / "x.safetensors"),
        lambda: editkit.compose([path]),
        lambda: editkit.compose([behind]),
        lambda: editkit.harden(path, "emoji"),
        lambda: editkit.harden(behind, "emoji"),
        lambda: editkit.gated("emoji", path, CAPTIONS, EPS),
        lambda: behind.weights({}),
        lambda: behind.low_rank({}, 0.1),
    ):
        with pytest.raises(EditkitError, match=r"a gate is no weights.*give the edit that it was made of"):
            refused()


def test_what_cannot_have_a_gate_says_why(edit: Edit, tiny_sd: Path) -> None:
    with pytest.raises(
        EditkitError, match=f"--eps 0.01 needs {3 * least(0.01)} that name nothing erased.*got 298 of 330"
    ):
        gated("emoji", edit, CAPTIONS)
    layers = editkit.Options("uce", protect="none", technique="tensor")
    with pytest.raises(EditkitError, match="a map of its own for each layer; make it without --technique tensor"):
        gated("emoji", editkit.erase("emoji", ["church"], options=layers, checked=False), CAPTIONS, EPS)
    with pytest.raises(EditkitError, match=r"for embeddings of width 512, the model has 256"):
        gated(tiny_sd, edit, CAPTIONS, EPS)
    plain = editkit.erase(tiny_sd, ["church"], options=editkit.Options("uce", protect="none"), checked=False)
    with pytest.raises(EditkitError, match="brings no neutral captions along; give --captions FILE"):
        gated(tiny_sd, plain)
    with pytest.warns(UserWarning, match="the threshold comes from 99 captions"):
        gated("emoji", edit, CAPTIONS, EPS)


def test_captions_that_ask_for_it_or_made_it_are_left_out(edit: Edit) -> None:
    more = [*CAPTIONS, "a church on a hill", "Two chapels", "a dog", "dog on a hill"]
    said = gated("emoji", edit, more, EPS).record["gate"]
    without = gated("emoji", edit, CAPTIONS, EPS).record["gate"]
    assert said["captions"]["left_out"] == without["captions"]["left_out"] + 3  # "a dog" is protected
    assert said["captions_sha256"] != without["captions_sha256"]


def searched(arena: Arena, *prompts: str) -> Tensor:
    """What the search for prompts makes small, of all rows of the prompts."""
    encoder = arena.model.encoder
    distance = PromptSearch()._distance(arena, "a church", arena.variant, encoder.length, "set")
    return distance(torch.stack(encoder.encode(prompts)).float())


@pytest.mark.parametrize(("tau", "as_edited"), [(math.inf, False), (-1.5, True)])
def test_an_attack_meets_the_gate(edit: Edit, behind: Edit, denoiser: Denoiser, tau: float, as_edited: bool) -> None:
    always, wanted = with_threshold(behind, tau), edit if as_edited else None
    mine, other = (Victim.of(denoiser, variant) for variant in (always, wanted))
    raw = mine.raw(["a church", "a dog"], Cost())
    z, t = torch.randn(2, *denoiser.latent_shape()), torch.tensor([500, 500])
    assert torch.equal(mine.predict(z, t, raw, Cost()), other.predict(z, t, raw, Cost()))
    assert torch.equal(mine.away(raw, "").text, raw.text)
    raw = replace(raw, text=raw.text.clone().requires_grad_())
    assert torch.autograd.grad(mine.condition(raw).text.sum(), raw.text)[0].isfinite().all()
    model = editkit.open_model("emoji")
    arenas = [Arena(model, variant, None, None, Sampling(), ()) for variant in (always, wanted)]
    target = Target.of("church", model.profile, ["a {}"])
    near, far = (searched(arena, "a church", "a trumpet") for arena in arenas)
    assert torch.equal(near, far)
    if as_edited:
        found, known = (Embedding().attack(arena, target)[0] for arena in arenas)
        assert found.loss == known.loss


def test_the_search_for_prompts_sees_each_prompt_pass_or_not(edit: Edit, behind: Edit) -> None:
    model = editkit.open_model("emoji")
    mine, edited, plain = (
        searched(Arena(model, variant, None, None, Sampling(), ()), "a church", "a trumpet")
        for variant in (behind, edit, None)
    )
    assert torch.equal(mine, torch.stack([edited[0], plain[1]])) and not torch.equal(edited, plain)
    arena, target = Arena(model, behind, None, None, Sampling(), ()), Target.of("church", model.profile, ["a {}"])
    assert PromptSearch().losses(arena, target, ["a church"])[0] == pytest.approx(float(mine[0]), abs=0.1)


def test_the_command_writes_a_gate_that_others_take(edit: Edit, tmp_path: Path) -> None:
    save_edit(edit, tmp_path / "church.safetensors")
    save_edit(replace(edit, record={**edit.record, "created": "now"}), tmp_path / "other.safetensors")
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS))
    words = ("gate", "church.safetensors", "--captions", "captions.txt", "--eps", "0.05")
    said = run(*words, cwd=tmp_path)
    assert (
        "What the gate does" in said and "opens for at most 5.00%" in said and "edit: church.gate.safetensors" in said
    )
    assert "exists" in run(*words, cwd=tmp_path, code=1)
    record: dict[str, Any] = json.loads(run("info", "church.gate.safetensors", "--json", cwd=tmp_path))
    assert record["gate"]["eps"] == 0.05 and len(record["gate"]["edit_sha256"]) == 64
    draws = ("generate", "--prompt", "a dog", "--steps", "1")
    run(*draws, "--out", "a.png", cwd=tmp_path)
    run(*draws, "--gate", "church.gate.safetensors", "--edit", "church.safetensors", "--out", "b.png", cwd=tmp_path)
    run(*draws, "--edit", "church.gate.safetensors", "--out", "c.png", cwd=tmp_path)
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in "abc"}) == 1
    attacked = ("attack", "church.safetensors", "--gate", "church.gate.safetensors", "--attack", "embedding")
    found = json.loads(run(*attacked, "--pictures", "0", "--no-control", "--json", cwd=tmp_path))
    assert {each["variant"] for each in found["attempts"]} == {"church.gate"}
    other = run(
        *draws,
        "--gate",
        "church.gate.safetensors",
        "--edit",
        "other.safetensors",
        "--out",
        "d.png",
        cwd=tmp_path,
        code=1,
    )
    assert "was made of another edit than other.safetensors" in other
    no_gate = run(*draws, "--gate", "church.safetensors", "--out", "d.png", cwd=tmp_path, code=1)
    assert "is an edit without a gate" in no_gate


def test_the_gate_stands_in_place_of_its_edit(behind: Edit, edit: Edit, tmp_path: Path) -> None:
    file, gate = str(tmp_path / "a.safetensors"), str(tmp_path / "a.gate.safetensors")
    save_edit(edit, file)
    save_edit(editkit.gated("emoji", file, CAPTIONS, EPS), gate)
    assert behind_gate([BASE, file], gate) == [BASE, gate] and behind_gate([gate], gate) == [gate]
    assert behind_gate([], gate) == [gate] and behind_gate([BASE], gate) == [BASE, gate]
    assert behind_gate([file], None) == [file]


def test_the_page_states_the_committed_tables() -> None:
    root = Path(__file__).parents[1]
    results = json.loads((root / "tests" / "bench" / "gate.json").read_text())
    page = (root / "docs" / "how-to" / "gate.md").read_text(encoding="utf-8")
    for table in (as_markdown(results), missed_as_markdown(results)):
        assert table in page, table
