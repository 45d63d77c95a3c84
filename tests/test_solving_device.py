"""`--device` of what is solved and searched in closed form: on a GPU, or what stands for one, as on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import editkit
from editkit.drawing.sampling import Sampling
from editkit.edits.compose import compose
from editkit.edits.edit import Edit
from editkit.edits.gate import Gate
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.evaluation.sensitivity import word_damage
from editkit.model.editable import EditableModel, open_model
from editkit.redteam.arena import Arena
from editkit.redteam.counterexamples import ByLoss, near_duplicate
from editkit.redteam.embedding import Embedding
from editkit.redteam.prompt import PromptSearch
from editkit.redteam.target import Target
from editkit.variants.edit_file import load_edit, save_edit
from tests import tiny_pipelines
from tests.cli import run
from tests.second_device import CPU, place, second_device

WORDS = ["dog", "cat", "tree", "house", "car", "river", "mountain", "table"]
CASES: dict[str, dict[str, Any]] = {
    "minimax of a list": {"options": Options("uce"), "guides": ["in-class"], "preserve": ["a boat"]},
    "null with captions": {"options": Options("uce", protect="null"), "prior": ["a dog in a park", "a red house"]},
    "hard, found": {"options": Options("uce", hard=True), "guides": ["safe"], "found": {"church": ["a stone roof"]}},
    "of every layer": {"options": Options("oce")},
}


@pytest.fixture
def cuda() -> Iterator[str]:
    """Where a GPU is, or what stands for it."""
    if torch.cuda.is_available():
        yield "cuda"
    else:
        with second_device() as name:
            yield name


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> EditableModel:
    return open_model(tiny_sd)


def erased(model: EditableModel, name: str, device: str | None = None) -> Edit:
    """As if nothing had been encoded yet: the last bits of a row depend on the prompts that it was encoded with."""
    return editkit.erase(model.fresh(), ["church"], vocabulary=WORDS, checked=False, device=device, **CASES[name])


def apart(first: Edit, second: Edit) -> float:
    assert first.maps.keys() == second.maps.keys()
    pairs = [(first.maps[key].to("cpu").dense(), second.maps[key].to("cpu").dense()) for key in first.maps]
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


@pytest.mark.filterwarnings("ignore:.*blows up")
@pytest.mark.parametrize("name", CASES)
def test_erase_solves_on_a_device_what_it_solves_on_the_processor(model: EditableModel, name: str, cuda: str) -> None:
    here, there = erased(model, name), erased(model, name, cuda)
    assert all(place(edit_map.U) == place(edit_map.V) != CPU for edit_map in there.maps.values())
    assert apart(there, here) < 1e-8
    assert there.record["figures"]["rank"] == here.record["figures"]["rank"]
    assert there.record["projections_sha256"] == here.record["projections_sha256"]


@pytest.mark.filterwarnings("ignore:.*blows up")
def test_both_streams_of_a_model_are_solved_there(tmp_path: Path, cuda: str) -> None:
    model = open_model(tiny_pipelines.save("sdxl", tmp_path / "sdxl"))
    here, there = (erased(model, "minimax of a list", device) for device in (None, cuda))
    assert len(there.maps) == 2 and all(place(edit_map.U) != CPU for edit_map in there.maps.values())
    assert apart(there, here) < 1e-8


@pytest.mark.filterwarnings("ignore:.*blows up")
def test_an_edit_of_a_device_is_written_read_and_measured_anywhere(
    model: EditableModel, tmp_path: Path, cuda: str
) -> None:
    name = "minimax of a list"
    there, here = erased(model, name, cuda), erased(model, name)
    save_edit(there, tmp_path / "there.safetensors")
    save_edit(here, tmp_path / "here.safetensors")
    read, own = (load_edit(tmp_path / f"{where}.safetensors") for where in ("there", "here"))
    assert isinstance(read, Edit) and isinstance(own, Edit) and place(read.maps["*"].U) == CPU
    assert apart(read, own) < 1e-5  # as a file holds them
    assert apart(compose(there, read), compose(here, own)) < 1e-5
    told = [word_damage(which, [edit], WORDS)[0].values for which in (model, model.on(cuda)) for edit in (there, here)]
    assert all(values == pytest.approx(told[0], rel=1e-6) for values in told)


def test_time_edits_on_a_device(model: EditableModel, cuda: str) -> None:
    made = [
        editkit.edit(model.fresh(), "a rose", "a tulip", vocabulary=WORDS, checked=False, device=device)
        for device in (None, cuda)
    ]
    assert place(made[1].map.U) != CPU and apart(made[1], made[0]) < 1e-8


def test_the_search_for_prompts_finds_on_a_device_what_it_finds_on_the_processor(
    model: EditableModel, cuda: str
) -> None:
    """The same prompts in the same order, with a gate and without, by rows and by sets of them."""
    alone = editkit.erase(model, ["church"], options=Options("uce", protect="none"), checked=False)
    rows = model.encoder.encode(["a church", "a dog", "a red house"])
    gate = Gate.fit(rows[1:], rows[0][:3])
    search = PromptSearch(population=12, generations=1, restarts=1, search_rounds=1, swaps=6, top=4, best=4)
    target = Target.of("church", model.profile, ["a {}"])
    for edit in (alone, Edit(alone.maps, alone.record, gate)):
        found, losses, fed = [], [], []
        for where in (model, model.on(cuda)):
            arena = Arena(where, edit, None, None, Sampling(4, 3.0), (), 0)
            proposals = search.attack(arena, target)
            found.append([each.prompt for each in proposals])
            losses.append([float(each.loss or 0) for each in proposals])
            confirmed = ByLoss(search, 0.9)(arena, target, ["a stone roof"])
            (derived,) = Embedding().attack(arena, target)
            assert derived.rows is not None
            near = near_duplicate(where.encoder, where.gram, "a church", ["a church", "a dog"])
            fed.append((confirmed, derived.rows.cpu(), near))
        assert found[0] == found[1] and found[0]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)
        assert fed[0][0] == fed[1][0] and fed[0][2] == fed[1][2] and torch.allclose(fed[0][1], fed[1][1], atol=1e-5)


def test_a_device_without_float64_is_solved_for_on_the_processor(model: EditableModel) -> None:
    """Whether it is there or not: nothing is laid on it."""
    assert model.on("mps") is model and model.on(None) is model


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(tiny_sd: Path) -> None:
    with pytest.raises(EditkitError, match="--device cuda:99: cannot be used here"):
        open_model(tiny_sd, device="cuda:99")


@pytest.mark.parametrize(
    "ask", [editkit.plan_erasing, editkit.plan_drawing, lambda _, name: open_model("emoji", device=name)]
)
def test_a_device_of_no_such_name_is_refused_in_a_line(ask: Any) -> None:
    with pytest.raises(EditkitError, match="--device nonsense: expected cpu, cuda, cuda:1 and so on, mps or xpu"):
        ask("emoji", "nonsense")


def test_the_command_line_hands_the_device_on(tiny_sd: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "church.toml"
    run("ledger", "add", ledger, "--concept", "church", "--model", tiny_sd, cwd=tmp_path)
    for command in (["erase", "--concept", "church"], ["edit", "a rose", "a tulip"], ["ledger", "solve", ledger]):
        said = run(*command, "--model", tiny_sd, "--device", "cuda:99", cwd=tmp_path, code=1)
        assert "--device cuda:99: cannot be used here" in said
