"""The planned memory of erasing against what is measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from editkit.concepts.templates import fill
from editkit.edits.figures import measure
from editkit.edits.method import Method, Options
from editkit.edits.problem import Problem, Rows
from editkit.embeddings.clip_text import pack
from editkit.embeddings.states import AT_A_TIME, Loaded
from editkit.erasure import miniature
from editkit.erasure.concept_rows import ConceptRows
from editkit.erasure.erase import erase
from editkit.erasure.plan import ErasingPlan, Part, plan_erasing
from editkit.erasure.styles import protected_rows
from editkit.errors import EditkitError
from editkit.files.lazy import Lazy
from editkit.model.editable import Stream, open_model
from tests import tiny_pipelines
from tests.cli import run
from tests.test_memory import allocated

WORDS = [f"{first}{second}" for first in "abcdefgh" for second in "klmnopqrst"]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("planned")
    return cache(lambda name: tiny_pipelines.save(name, base / name))


def part_of(plan: ErasingPlan, name: str) -> Part:
    return next(part for part in plan.parts if part.name == name)


def problem_of(stream: Stream, options: Method) -> Problem:
    """What `erase` solves for one concept that becomes " "."""
    model = open_model("emoji")
    words = protected_rows(model.profile, stream.encoders, WORDS, ["church"])
    rows = ConceptRows(stream.encoders, ("a {}",), options.tokens).of("church", " ")
    target = rows.target.double()
    return Problem((Rows(rows.source, target),), None, stream.inputs, stream.gram, words)


@pytest.mark.parametrize("name", ["sdxl", "flux1"])
def test_a_plan_reads_what_lies_in_the_files(name: str, folder_of: Callable[[str], Path]) -> None:
    """Text encoders whole, of the denoiser the projections alone, to the byte."""
    folder = folder_of(name)
    planned = plan_erasing(folder, vocabulary=WORDS)
    for component in ("text_encoder", "text_encoder_2"):
        (file,) = (folder / component).glob("*.safetensors")
        stored = load_file(file).items()
        kept = sum(tensor.nbytes for key, tensor in stored if not key.endswith("position_ids"))
        assert part_of(planned, component).read == kept
    projections = open_model(folder).projections
    assert part_of(planned, "projections").read == sum(W.nbytes for W in projections.values())


def test_a_t5_is_planned_as_it_runs(folder_of: Callable[[str], Path]) -> None:
    """Its weights stay while it runs, on the device that is asked for."""
    encoder = open_model(folder_of("flux1")).encoders["text"][0]
    here, there = (plan_erasing(folder_of("flux1"), device, vocabulary=WORDS) for device in ("cpu", "cuda"))
    part = part_of(here, "text_encoder_2")
    count = max(1, AT_A_TIME // encoder.length)
    loaded: Any = encoder.free.__self__  # pyright: ignore[reportFunctionMemberAccess]
    ids = torch.zeros(count, encoder.length, dtype=torch.long)
    model = loaded.model
    with torch.no_grad():
        measured = allocated(lambda: model(ids).last_hidden_state.float())
    assert part.host - part.read == pytest.approx(measured, rel=0.1) and part.device == 0
    moved = part_of(there, "text_encoder_2")
    assert moved.device == part.host and moved.host == moved.read == part.read
    assert moved.device <= there.total - there.itself <= here.total and there.host <= here.host == here.total


def test_clip_is_planned_as_it_runs(tiny_sd: Path) -> None:
    """A layer at a time, with what is mapped of its file, here in memory that is counted."""
    encoder = open_model(tiny_sd).encoders["text"][0]
    assert encoder.clip is not None
    reads = {name: partial(torch.zeros, W.shape, dtype=W.dtype) for name, W in encoder.clip.tensors.items()}
    model = replace(encoder.clip, tensors=Lazy(reads))
    packs = pack([encoder.reader.ids(fill("a {}", word)) for word in WORDS])
    measured = allocated(lambda: model.packed_rows(packs))
    assert part_of(plan_erasing(tiny_sd, vocabulary=WORDS), "text_encoder").host == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("how", [{"protect": "none"}, {}, {"method": "uce", "protect": "prior"}])
def test_a_solve_is_planned_as_it_runs(how: dict[str, Any], folder_of: Callable[[str], Path]) -> None:
    options = Options(**how)
    (stream, *_) = open_model(folder_of("sdxl")).streams
    problem = problem_of(stream, options)
    measured = allocated(lambda: measure(options.solve(problem), problem, checked=False))
    counts = [len(problem.rows[0].source)], [len(rows) for rows in problem.protected.rows], 0  # pyright: ignore
    assert miniature.Miniature(stream).solving(options, *counts) == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("how", [{"protect": "none"}, {}])
def test_a_small_copy_takes_its_share(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The solve of the bundled model, of width 512, counted at that width and at a quarter of it."""
    options, stream = Options(**how), open_model("emoji").streams[0]
    counts = [24] * 6, [12] * 200, 0
    small = miniature.Miniature(stream).solving(options, *counts)
    monkeypatch.setattr(miniature, "SMALL", 512)
    assert small == pytest.approx(miniature.Miniature(stream).solving(options, *counts), rel=0.1)


def test_more_is_planned_for_more(folder_of: Callable[[str], Path]) -> None:
    def planned(**given: Any) -> ErasingPlan:
        return plan_erasing(folder_of("sdxl"), **({"vocabulary": WORDS} | given))  # pyright: ignore[reportArgumentType]

    usual = part_of(planned(), "rows").host
    assert (
        part_of(planned(concepts=["church", "dog"]), "rows").host
        > usual
        < part_of(planned(preserve=["a dog"]), "rows").host
    )
    assert part_of(planned(vocabulary=WORDS[:40]), "rows").host < usual
    assert planned(options=Options(protect="none")).total < planned().total
    assert part_of(planned(options=Options("uce", protect="null")), "solve").host


def test_encoders_go_before_anything_is_solved(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And come back for more; the edit is the same to the bit as of a model that keeps them."""
    model = open_model(folder_of("flux1"))
    there: list[bool] = []
    solve = Method.solve
    loaded: Any = model.encoders["text"][0].free.__self__  # pyright: ignore[reportFunctionMemberAccess]

    def solved(options: Method, problem: Problem) -> Any:
        there.append(loaded._model is not None)
        return solve(options, problem)

    monkeypatch.setattr(Method, "solve", solved)
    first = erase(model, ["church"], ["dog"], options=Options(protect="none"), checked=False)
    assert there == [False, False]
    monkeypatch.setattr(Loaded, "free", lambda loaded: None)
    second = erase(open_model(folder_of("flux1")), ["church"], ["dog"], options=Options(protect="none"), checked=False)
    assert first.record["text_encoder_sha256"] == second.record["text_encoder_sha256"]
    assert all(torch.equal(one.U, second.maps[key].U) for key, one in first.maps.items())
    assert len(model.encoders["text"][0].encode(["a picture"])) == 1 and loaded._model is not None


def test_a_plan_is_printed_and_nothing_is_written(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    how = ["erase", "--model", folder_of("flux1"), "--concept", "church", "--plan"]
    said = run(*map(str, how), "--device", "cuda", "--protect", "none", cwd=tmp_path)
    assert said.startswith("planned peak on cuda, 1 concept: ") and "in the processor's memory" in said
    assert [line.split("  ")[1].strip() for line in said.splitlines()[1:]] == [
        "text_encoder", "text_encoder_2", "projections", "rows", "gram", "solve", "CUDA itself 0.59",
    ]  # fmt: skip
    assert "in the processor's memory" not in run(*map(str, how), cwd=tmp_path) and not [*tmp_path.iterdir()]


def test_a_single_file_is_not_planned_for(tmp_path: Path) -> None:
    from tests import ldm

    ldm.save_folder("sd1", tmp_path / "sd1")
    with pytest.raises(EditkitError, match="expected a folder with the configuration of each component"):
        plan_erasing(ldm.save_single_file("sd1", tmp_path / "sd1", tmp_path / "one.safetensors"))


def sparse(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of bfloat16 that takes no room on the disk: all of it but the header is a hole."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)


def flux_dev(folder: Path, tiny: Path) -> Path:
    """The sizes of FLUX.1 dev: its configurations, and files without values."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    from tests.test_drawing_plan import CONFIGS

    for part in ("tokenizer", "tokenizer_2", "model_index.json"):
        for path in [tiny / part, *(tiny / part).glob("*")]:
            if path.is_file():
                (folder / path.relative_to(tiny)).parent.mkdir(parents=True, exist_ok=True)
                (folder / path.relative_to(tiny)).write_bytes(path.read_bytes())
    with torch.device("meta"):
        encoders: dict[str, Any] = {
            "text_encoder": CLIPTextModel(CLIPTextConfig(**CONFIGS["text_encoder"])),
            "text_encoder_2": T5EncoderModel(T5Config(**CONFIGS["text_encoder_2"])),
        }
    for name, model in encoders.items():
        own = {id(weight): (key, tuple(weight.shape)) for key, weight in model.named_parameters()}
        sparse(folder / name / "model.safetensors", dict(own.values()))
    pooled = "time_text_embed.text_embedder.linear_1.weight"
    shapes = {"context_embedder.weight": (3072, 4096), pooled: (3072, 768)}
    sparse(folder / "transformer" / "diffusion_pytorch_model.safetensors", shapes)
    for name in ("transformer", *encoders):
        (folder / name / "config.json").write_text(json.dumps(CONFIGS[name]))
    return folder


def test_flux_is_edited_within_12_gb_of_a_gpu(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    """Its T5 is 9.5 GB in bfloat16. Nothing of it is read: the files are holes."""
    folder = flux_dev(tmp_path, folder_of("flux1"))
    planned, here = (plan_erasing(folder, device, ["church"]) for device in ("cuda", "cpu"))
    assert part_of(planned, "text_encoder_2").read == pytest.approx(2 * 4.762e9, rel=0.005)
    assert 9.5e9 < planned.total < 12e9 and planned.host < 12e9 and here.total < 12e9
    page = (Path(__file__).parents[1] / "docs" / "how-to" / "gpu.md").read_text(encoding="utf-8")
    said = f"{planned.total / 1e9:.1f} GB of a GPU and {planned.host / 1e9:.1f} GB of the processor's memory"
    assert said in " ".join(page.split()), said


def test_what_is_lazy_is_not_kept() -> None:
    reads: list[str] = []
    lazy = Lazy({name: lambda name=name: reads.append(name) or len(reads) for name in "ab"})
    assert [*lazy] == ["a", "b"] and "a" in lazy and "c" not in lazy and not reads
    assert dict(lazy.items()) == {"a": 1, "b": 2} and lazy["a"] == 3
    assert Lazy.of(lazy, {"new": "b"}).through(lambda value: -value)["new"] == -4 and reads == ["a", "b", "a", "b"]
    with pytest.raises(KeyError, match="c"):
        Lazy.of(lazy, {"new": "c"})
