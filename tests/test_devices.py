"""What a GPU would refuse, found without one: tensors that lie on another device than those they meet.

Methods look at values, so they are run on `second_device`; `test_gpu` draws and trains there. What does not look at
them is also run on tensors without values that say they are on a GPU: torch without CUDA lets these be multiplied, but
not be sliced, drawn at random or moved inside a module, so that no whole model runs on them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import editkit
from editkit.edits.clusters import centres_of
from editkit.edits.edit_map import EditMap
from editkit.edits.gate import Gate
from editkit.edits.gram import gram_matrix
from editkit.edits.key import padded
from editkit.edits.low_rank import LowRank
from editkit.edits.method import Options
from editkit.edits.moments import Moments
from editkit.edits.perturb import perturbed
from editkit.edits.problem import Problem, Rows
from editkit.edits.protect import ProtectedWords, change_root
from editkit.edits.solve import Penalty
from tests.cases import randn
from tests.second_device import GPU, place, second_device

D = 48
PROTECTED = {"oce": ("none", "prior")}
"""Protections that a method has, where these are not all."""
CASES = [
    (method, protect)
    for method in ("cure", "dp", "oce", "rece", "speed", "time", "uce")
    for protect in PROTECTED.get(method, ("none", "prior", "minimax", "null"))
]


def problem(device: str, protect: str) -> Problem:
    weights = {"a.to_k.weight": randn(1, D + 3, D), "a.to_v.weight": randn(2, 20, D)}
    there = {name: W.to(device) for name, W in weights.items()}
    rows = tuple(Rows(randn(n, 2, D).to(device), randn(n + 1, 2, D).to(device)) for n in (3, 5))
    words = ProtectedWords(tuple("abcdefgh"), tuple(randn(20 + n, 3, D).to(device) for n in range(8)))
    kept, empty = randn(7, 3, D).to(device), randn(8, 3, D).to(device)
    gram = gram_matrix(there.values(), D)
    return Problem(rows, kept, there, gram, None if protect == "none" else words, empty=empty)


@pytest.mark.parametrize(("method", "protect"), CASES)
def test_a_method_solves_on_a_device_what_it_solves_on_the_processor(method: str, protect: str) -> None:
    """Maps on the device, and the same to 1e-8."""
    chosen = Options(method, protect=protect)
    here = chosen.solve(problem("cpu", protect))
    with second_device() as cuda:
        there = chosen.solve(problem(cuda, protect))
        maps = {name: edit_map.to("cpu") for name, edit_map in there.maps.items()}
        assert all(place(edit_map.U) == place(edit_map.V) == GPU for edit_map in there.maps.values())
    assert maps.keys() == here.maps.keys() and maps
    for name, edit_map in maps.items():
        assert torch.allclose(edit_map.dense(), here.maps[name].dense(), atol=1e-8)


def test_every_method_is_among_them() -> None:
    assert {method for method, _ in CASES} == {component.name for component in editkit.methods()}


def test_what_looks_at_values_follows_its_rows_to_a_device() -> None:
    with second_device() as cuda:
        rows, neutral = randn(1, 3, D).to(cuda), [randn(n, 4, D).to(cuda) for n in range(2, 40)]
        gate = replace(Gate.fit(neutral, rows), tau=0.5)
        opened = gate.opens(torch.stack(neutral))
        noisy = perturbed([Rows(rows, rows + 1)], Penalty(0.1, rows), torch.eye(D, device=cuda).double(), 1.0, 2)
        moments = Moments.of([(rows, rows + 1), (rows, rows + 1)], D)
        made = [gate.centre, gate.white, opened, noisy[0].source, moments.crossed, centres_of(torch.cat(neutral), 3)]
        assert all(place(tensor) == GPU for tensor in made)


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        yield mode


def test_maps_rows_and_words_stay_on_their_device(fake: FakeTensorMode) -> None:
    def on_gpu(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device="cuda")

    edit_map = EditMap(on_gpu(D, 2), on_gpu(2, D))
    text, weight = on_gpu(2, 7, D, dtype=torch.bfloat16), on_gpu(9, D, dtype=torch.bfloat16)
    batch, mask = padded([text, on_gpu(1, 3, D, dtype=torch.bfloat16)])
    assert mask is not None
    made = {
        "embeddings": edit_map.embeddings(text), "weight": edit_map.weight(weight), "dense": edit_map.dense(),
        "then": edit_map.then(edit_map).U, "scale": edit_map.scale(0.5).U, "widened": edit_map.widened(2 * D).V,
        "padded": batch, "mask": mask,
                "root": change_root(on_gpu(D, D), edit_map),
        "low rank": LowRank(on_gpu(9, 2), on_gpu(2, D)).change(weight),
    }  # fmt: skip
    assert {name: str(tensor.device) for name, tensor in made.items() if tensor.device.type != "cuda"} == {}
    with pytest.raises(RuntimeError, match="device"):
        _ = edit_map.U @ torch.empty(2, D, dtype=torch.float64)


ROOT = Path(editkit.__file__).parent
WAITS = {"cpu", "numpy", "item", "tolist"}
"""Methods of tensors that wait until the GPU has done all that it was told."""
LOOPED = (
    *sorted((ROOT / "drawing" / "pipelines").glob("*.py")), ROOT / "drawing" / "trajectory.py",
    ROOT / "drawing" / "sampler.py", ROOT / "drawing" / "kept.py", ROOT / "tuning" / "passes.py",
    ROOT / "tuning" / "denoisers.py", ROOT / "tuning" / "descent.py", ROOT / "tuning" / "trainer.py",
    ROOT / "tuning" / "latents.py", ROOT / "tuning" / "loop.py",
)  # fmt: skip
"""Files with a loop of steps, or with what is run in one."""
ALLOWED = {
    ("transformer.py", "predict"): "lengths of prompts, for networks that take no mask: a batch is split by them",
    ("latents.py", "fresh"): "which trajectories are left: numbers that lie on the processor",
    ("trainer.py", "step"): "what a step lost, once for each part of its batch, for the log",
}
"""File and function → why it may wait."""


def waits(path: Path) -> Iterator[tuple[str, str]]:
    """File and function of every such call that stands in a loop, or in what a network is called by."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        loops = [node for node in ast.walk(function) if isinstance(node, ast.For | ast.While)]
        body = [function] if function.name in ("predict", "_said", "guided", "decode", "step") else loops
        for call in (node for part in body for node in ast.walk(part)):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in WAITS:
                yield path.name, function.name


def test_no_loop_of_steps_waits_for_a_gpu() -> None:
    assert {found for path in LOOPED for found in waits(path)} <= ALLOWED.keys()


def test_a_wait_in_a_loop_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def draw(z):\n    for t in z:\n        print(t.item())\n    return z.cpu()\n")
    (tmp_path / "b.py").write_text("def predict(z):\n    return z.tolist()\n")
    assert [*waits(tmp_path / "a.py"), *waits(tmp_path / "b.py")] == [("a.py", "draw"), ("b.py", "predict")]
