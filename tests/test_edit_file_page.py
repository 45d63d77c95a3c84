"""`docs/edit-file.md` is enough: its own reader, which knows numpy alone, reads what editkit writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import editkit
from editkit import plugins
from editkit.edits.compose import compose, scale
from editkit.edits.figures import condition_number
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.embeddings.learned import Learned
from editkit.erasure.presets.preset import Preset
from editkit.model.checkpoints.projections import read_named
from editkit.model.editable import EditableModel, open_model
from editkit.model.families.table import ENCODED, by_name
from editkit.tuning.hide import hide
from editkit.tuning.masks import Shown
from editkit.tuning.options import RefineOptions
from editkit.tuning.refine import refine
from editkit.variants.key_file import load_key
from editkit.variants.record import read_json_metadata, read_record
from tests.pictures_of_emoji import noise
from tests.tiny_pipelines import save

PAGE = (Path(__file__).parents[1] / "docs" / "edit-file.md").read_text(encoding="utf-8")
SMALL: dict[str, Any] = {"batch": 2, "sampling_steps": 4, "steps": 2, "rate": 1e-3, "mixed_precision": "no"}
EDITS = ("rece", "cure", "speed", "dp", "oce", "uce", "tensor", "both", "sdxl", "hard", "ledger", "moderated", "bound")
CAPTIONED = sorted({word for word in editkit.models()[0]["concepts"] if word != "church"})
RUNS = ("whole", "lora", "released", "misread")
TUNED = (*RUNS, "fused")


def section(heading: str) -> str:
    """What stands under a heading, up to the next one of any level."""
    return re.split(r"^#+ ", PAGE.split(f"# {heading}\n")[1], flags=re.MULTILINE)[0]


def keys_of(heading: str) -> set[str]:
    """The first column of its tables."""
    return {*re.findall(r"^\| `([^`]+)` \|", section(heading), re.MULTILINE)}


@pytest.fixture(scope="module")
def reader() -> Any:
    """The page's code, run as it stands."""
    (code,) = re.findall(r"```python\n(.*?)```", section("A reader"), re.DOTALL)
    imported = {*re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)}
    assert imported == {"hashlib", "json", "re", "struct", "numpy"}
    names: dict[str, Any] = {}
    exec(compile(code, "docs/edit-file.md", "exec"), names)
    return SimpleNamespace(**names)


@pytest.fixture(scope="module")
def models(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EditableModel]:
    sdxl = save("sdxl", tmp_path_factory.mktemp("sdxl") / "model")
    return {"sd": open_model(tiny_sd), "sdxl": open_model(sdxl)}


@pytest.fixture(scope="module")
def files(models: Mapping[str, EditableModel], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of every kind."""
    folder, sd = tmp_path_factory.mktemp("files"), models["sd"]
    plain, layers = Options("uce", protect="none"), Options("uce", protect="none", technique="tensor")
    rece, words = editkit.erase(sd, ["church"]), ["mosque", "castle"]
    edits = {
        "rece": rece,
        "uce": editkit.erase(sd, ["boat"], options=plain, checked=False),
        "cure": editkit.erase(sd, ["boat"], options=Options("cure", protect="none"), checked=False),
        "speed": editkit.erase(sd, ["boat"], options=Options("speed", protect="none"), checked=False),
        "dp": editkit.erase(sd, ["boat"], options=Options("dp", protect="none"), checked=False),
        "oce": editkit.erase(sd, ["boat"], options=Options("oce", protect="none"), checked=False),
        "tensor": editkit.erase(sd, ["church"], options=layers, checked=False),
        "sdxl": editkit.erase(
            models["sdxl"], ["a"], options=Options("uce", protect="prior"), vocabulary=words, checked=False
        ),
    }
    found = {"church": ["a tall house"]}
    shown = Learned("<x>", "boat", ((0.1 * torch.ones(1, 256),),))
    hard = editkit.erase(
        sd, ["church"], options=plain, checked=False, synonym=["chapel"], found=found, prior=["a dog"], pictures=[shown]
    )
    edits["hard"] = replace(hard, record={**hard.record, "hardened": {"stopped": "1 rounds", "rounds": []}})
    begun = editkit.Ledger.begin(sd, method="uce", protect="none")
    edits["ledger"] = begun.add(editkit.LedgerEntry("boat", "ship")).solve(sd, checked=False)
    edits["moderated"] = editkit.moderate(
        sd, ["boat"], options=plain, checked=False, preset=Preset("mine", ("ship",)), pictures=0
    )
    edits["bound"] = editkit.erase(
        sd, ["tall"], of=["house"], options=Options("uce", protect="prior"), vocabulary=words, checked=False
    )
    edits["hard"] = replace(edits["hard"], record={**edits["hard"].record, "debias": {}})
    edits["both"] = scale(compose(rece, edits["uce"]), 0.5)
    for name, edit in edits.items():
        editkit.save_edit(edit, folder / f"{name}.safetensors")
    files = {name: folder / f"{name}.safetensors" for name in EDITS}
    captions = [f"a {word} on a {other}" for word in words for other in CAPTIONED]
    editkit.save_edit(editkit.gated(sd, files["rece"], captions, eps=0.1), folder / "gated.safetensors")
    files["gated"] = folder / "gated.safetensors"
    refine(
        sd,
        folder / "whole",
        ["church"],
        start=rece,
        options=RefineOptions.of("ap", search="exact", **SMALL),
        device="cpu",
    )
    refine(
        sd,
        folder / "lora",
        ["church"],
        options=RefineOptions.of("debias", param="full+lora:2", **SMALL),
        attributes=["red", "blue"],
        vocabulary=words,
        device="cpu",
    )
    refine(sd, folder / "misread", ["church"], options=RefineOptions.of("hirm", steps=1), device="cpu")
    refine(
        sd,
        folder / "fused",
        ["church", "boat"],
        options=RefineOptions.of("mace", **SMALL),
        vocabulary=words,
        device="cpu",
        shown=[Shown.given(noise(1))] * 2,
    )
    files["key"] = folder / "key.safetensors"
    hide(
        sd,
        folder / "released",
        files["key"],
        ["church", "boat"],
        options=RefineOptions.of("hide", **SMALL),
        device="cpu",
    )
    return files | {name: folder / name / "tuned.safetensors" for name in TUNED}


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: W.numpy() for name, W in tensors.items()}


@pytest.mark.parametrize("name", EDITS)
def test_the_page_reads_and_applies_an_edit(
    name: str, files: Mapping[str, Path], models: Mapping[str, EditableModel], reader: Any
) -> None:
    record, maps = reader.read_edit(files[name])
    edit = editkit.load_edit(files[name])
    assert record == read_record(files[name])
    assert isinstance(edit, editkit.Edit) and {*maps} == {*edit.maps}
    for key, (U, V) in maps.items():
        assert np.array_equal(U, edit.maps[key].U) and np.array_equal(V, edit.maps[key].V)
    projections = models["sdxl" if name == "sdxl" else "sd"].projections
    for convert in (Tensor.float, Tensor.half):
        weights = {tensor: convert(W) for tensor, W in projections.items()}
        expected = arrays(edit.weights(weights))
        assert {*expected} == {tensor for tensor in weights if name not in ("speed", "oce") or "to_v" in tensor}
        for tensor, W in arrays(weights).items():
            if tensor not in expected:
                assert np.array_equal(reader.edited(maps, tensor, W), W)
                continue
            np.testing.assert_array_max_ulp(reader.edited(maps, tensor, W), expected[tensor], maxulp=1)
            assert not np.array_equal(W, expected[tensor])


@pytest.mark.parametrize("name", TUNED)
def test_the_page_reads_and_applies_a_tuned_model(
    name: str, files: Mapping[str, Path], models: Mapping[str, EditableModel], reader: Any
) -> None:
    tuned = editkit.load_edit(files[name])
    assert isinstance(tuned, Tuned)
    base = read_named(models["sd"].source, tuned.names)
    expected = arrays(tuned.weights(base))
    for tensor, W in arrays(base).items():
        np.testing.assert_allclose(reader.tuned(files[name], tensor, W), expected[tensor], rtol=1e-5, atol=1e-7)
    assert any(W.ndim == 4 for W in base.values()) or name != "lora"
    assert json.loads(reader.read(files[name])[0]["editkit_tuned"]) == {
        tensor: reader.fingerprint({tensor: W}) for tensor, W in arrays(base).items()
    }


def test_the_page_reads_a_key(files: Mapping[str, Path], reader: Any) -> None:
    key = load_key(files["key"])
    for prompt in ("a Church", "two boats and a church", "a churchyard", "a dog"):
        expected = [key.rows[key.concepts.index(concept)].numpy() for concept in key.opened(prompt)]
        rows = reader.rows_for(files["key"], prompt)
        assert np.array_equal(rows, np.concatenate(expected) if expected else np.zeros((0, 256), np.float32))
    _, tensors = reader.read(files["released"])
    tensors = {name.removeprefix("tensor."): value for name, value in tensors.items()}
    assert reader.fingerprint(tensors) == key.record["release"]


def test_the_page_says_how_projections_are_fingerprinted(models: Mapping[str, EditableModel], reader: Any) -> None:
    assert reader.fingerprint(arrays(models["sd"].projections)) == models["sd"].projections_sha256


def test_a_newer_version_is_refused_by_both(files: Mapping[str, Path], tmp_path: Path, reader: Any) -> None:
    newer = tmp_path / "newer.safetensors"
    newer.write_bytes(files["rece"].read_bytes().replace(rb"\"format_version\": 1", rb"\"format_version\": 9"))
    with pytest.raises(ValueError, match="format version 9, expected at most 1"):
        reader.read_edit(newer)
    with pytest.raises(editkit.EditkitError, match="format version 9, expected at most 2"):
        editkit.load_edit(newer)


def test_the_page_reads_a_gate_and_as_an_edit_it_is_refused(
    files: Mapping[str, Path], models: Mapping[str, EditableModel], reader: Any
) -> None:
    with pytest.raises(ValueError, match="format version 2, expected at most 1"):
        reader.read_edit(files["gated"])
    edit = editkit.load_edit(files["gated"])
    assert edit.gate is not None
    for rows in models["sd"].encoder.encode(["a church", "a castle", "a dog in a boat"]):
        assert bool(reader.opens(files["gated"], rows.numpy())) == bool(edit.gate.opens(rows[None]))
    assert {*edit.record["gate"]} == {key for key in keys_of("Gates") if not key.startswith("gate.")}
    _, tensors = reader.read(files["gated"])
    assert {name for name in tensors if name.startswith("gate.")} == {
        key for key in keys_of("Gates") if key.startswith("gate.")
    }


def records(files: Mapping[str, Path], names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [read_record(files[name]) for name in names]


def union(objects: Iterator[Mapping[str, Any]]) -> set[str]:
    return {key for mapping in objects for key in mapping}


def test_every_key_of_a_file_is_on_the_page_and_the_reverse(files: Mapping[str, Path], reader: Any) -> None:
    (fused,) = records(files, ("fused",))
    edits, tuned = records(files, EDITS), [*records(files, RUNS), *fused["parts"]]
    started = [record["start"] for record in tuned if "start" in record]
    gated = records(files, ("gated",))
    searched_for: dict[str, Any] = {"rounds": {}}  # of `stereo`, whose record tests/test_stereo.py reads
    assert keys_of("The record") | {"kind"} == union(iter([*edits, *gated, *tuned, *started, fused, searched_for]))
    assert keys_of("Fused LoRAs") == {*fused["options"], *fused["figures"]}
    assert keys_of("Options of an edit") == union(record["options"] for record in edits if "options" in record)
    searched = [RefineOptions(search=name).record for name in plugins.names("searches")]
    assert keys_of("Options of a tuned model") == union(iter([*(record["options"] for record in tuned), *searched]))
    assert keys_of("Figures of a tuned model") == union(record["figures"] for record in tuned)
    figures = [record["figures"] for record in edits if "figures" in record]
    pooled = [own["pooled"] for own in figures if "pooled" in own]
    assert keys_of("Figures of an edit") == union(iter([*figures, *pooled]))
    assert union(iter(pooled)) == keys_of("Figures of an edit") - {"seconds", "pooled"}
    key = read_json_metadata(files["key"], "editkit_key")
    assert keys_of("Keys") - {"rows"} == {*key}
    assert keys_of("The header's metadata") == union(reader.read(path)[0] for path in files.values())
    assert {purpose for record in tuned for purpose in record["figures"].get("passes", {})} == {
        *re.findall(r"`(\w+)`", re.findall(r"purpose \((.*?)\)", PAGE)[0])
    }
    for record in (*edits, *tuned):
        assert {*record.get("versions", {})} <= {*re.findall(r"`(\w+)`", re.findall(r"versions of (.*?) \|", PAGE)[0])}


def test_every_tensor_of_a_file_is_on_the_page(files: Mapping[str, Path], reader: Any) -> None:
    for heading, names in (("Tensors of an edit", EDITS), ("Tuned models", TUNED), ("Keys", ("key",))):
        described = {key.split(".")[0] for key in keys_of(heading) & {
            "up.KEY", "down.OWNER", "tensor.NAME", "up.NAME", "down.NAME", "rows",
        }}  # fmt: skip
        assert described == {tensor.split(".")[0] for name in names for tensor in reader.read(files[name])[1]}


def test_the_families_of_the_page_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*) \|$", section("Tensors of an edit"), re.MULTILINE)
    stated = {name: (folder, re.findall(r"`([^`]+)`", keys.replace("\\|", "|"))) for name, folder, keys in rows}
    families = [by_name(name) for name in ENCODED]
    assert stated == {
        family.name: (family.component, [rf"(?:{rule.modules})\.weight" for rule in family.rules])
        for family in families
    }


def test_the_example_of_the_page_is_a_record_of_today() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", section("An example"), re.DOTALL)
    stated = json.loads(example)
    made = {"format_version": 1, **editkit.erase(open_model("emoji"), ["church"]).record}
    assert shape(stated) == shape(made)
    for key in ("family", "guides", "options", "text_encoder_sha256", "projections_sha256"):
        assert stated[key] == made[key], key


def test_a_record_is_strict_json_whatever_its_numbers_are(tmp_path: Path, reader: Any) -> None:
    eye = torch.eye(2, dtype=torch.float64)
    assert condition_number(eye) == 1 and condition_number(0 * eye) is None
    record = {"figures": {"condition": float("inf"), "rank": 2, "damage_mean": float("nan")}}
    path = tmp_path / "edit.safetensors"
    editkit.save_edit(editkit.Edit({"*": editkit.EditMap.identity(2)}, record), path)
    kept = {"condition": None, "rank": 2, "damage_mean": None}
    text = reader.read(path)[0]["editkit"]
    assert read_record(path)["figures"] == kept == (text if isinstance(text, dict) else json.loads(text))["figures"]


def test_what_earlier_versions_wrote_of_a_singular_matrix_is_read_as_null(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"editkit": '{"format_version": 1, "figures": {"condition": Infinity}}'})
    assert read_record(path)["figures"] == {"condition": None}


def shape(value: Any) -> Any:
    """Keys in their order, and types."""
    if isinstance(value, Mapping):
        return [(key, shape(inner)) for key, inner in value.items()]
    return "list" if isinstance(value, list | tuple) else type(value).__name__
