"""What `editkit families` promises: every dot is a command that runs on a tiny model of that family."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import diffusers
import pytest
from PIL import Image

from editkit.drawing.pipelines import kinds
from editkit.model.families.support import DRAWN, support
from editkit.model.families.table import by_name
from editkit.plugins import loadable
from tests import ldm, tiny_llm_pipelines, tiny_pipelines, tiny_t5_pipelines
from tests.cli import run

SAVE: dict[str, Callable[[str, Path], Path]] = {
    **dict.fromkeys(("sdxl", "sd3", "flux1"), tiny_pipelines.save),
    **dict.fromkeys(tiny_t5_pipelines.PIPELINES, tiny_t5_pipelines.save),
    **dict.fromkeys(tiny_llm_pipelines.PIPELINES, tiny_llm_pipelines.save),
}
SIZES = {"sd1": "16x16", "sd2": "16x16", "sdxl": "16x16", "sana": "64x64", "lumina2": "128x128", "auraflow": "16x16"}
"""Small sizes that the tiny models draw; others draw 32x32."""
SUITE = """
name = "tiny"
about = "One thing erased and one kept."
detector = "emoji-judge"
metrics = ["esr-1", "psr-1"]
seeds = "0"
classes = ["church", "dog"]
templates = ["a {}"]

[splits]
1 = ["church"]
"""
FORMATS = loadable("formats")
KNOWN = {row.family: row for row in support()}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("support")

    def made(name: str) -> Path:
        if name == "sd1":
            return tiny_sd
        return ldm.save_folder(name, base / name) if name == "sd2" else SAVE[name](name, base / name)

    return cache(made)


@pytest.mark.parametrize("name", [name for name, row in KNOWN.items() if row.erase])
def test_what_the_table_says_of_a_family_its_commands_do(
    name: str, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    row, folder = KNOWN[name], folder_of(name)
    model, size = ("--model", folder), ("--size", SIZES.get(name, "32x32"), "--steps", "1")
    erase = ("erase", "--concept", "church", "--guide", "dog", "--method", "uce", "--protect", "none", "--lamb", "0.01")
    run(*erase, *model, "--out", "e.safetensors", cwd=tmp_path)
    for kind in {*FORMATS} - {"single-file"}:  # of the checkpoints, which tests/test_chain.py writes
        suits = kind in row.formats and "denoiser" in FORMATS[kind].holds  # tests/test_hirm.py trains text encoders
        words = ("export", "e.safetensors", *model, "--format", kind, "--out", f"as-{kind}")
        said = run(*words, cwd=tmp_path, code=0 if suits else 1)
        assert (tmp_path / f"as-{kind}").exists() if suits else f"--format {kind}: " in said
        told = "no program loads it for" if kind not in row.formats else "holds no weights of the denoiser"
        assert suits or told in said
    prompt = ("--prompt", "a church")
    if not row.draw:
        said = run("generate", *model, *prompt, "--out", "g.png", cwd=tmp_path, code=1)
        assert "which is edited here but not drawn" in said
        return
    run("generate", *model, *prompt, *size, "--edit", "e.safetensors", "--out", "g.png", cwd=tmp_path)
    assert Image.open(tmp_path / "g.png").width > 16
    (tmp_path / "words.txt").write_text("dog\nmosque\npicture\n")
    few = ("--vocabulary", "words.txt", "--out", "report/")
    run("compare", "base", "e.safetensors", *model, *prompt, *size, *few, cwd=tmp_path)
    assert "a church" in (tmp_path / "report" / "index.html").read_text()
    (tmp_path / "tiny.toml").write_text(SUITE)
    said = run(
        "evaluate", "base", "e.safetensors", *model, *size, "--suite", "tiny.toml", "--split", "1", "--out", "results",
        cwd=tmp_path,
    )  # fmt: skip
    assert "esr-1" in said.lower()
    drawn = json.loads((tmp_path / "results" / "results.json").read_text())
    assert drawn["protocol"]["sampling"]["steps"] == 1
    if row.refine:
        few = ("--objective", "esd", "--steps", "1", "--batch", "2", "--sampling-steps", "1")
        run("refine", *model, "--concept", "church", *few, "--out", "tuned/", cwd=tmp_path)
        run("export", "tuned/", *model, "--out", "tuned.safetensors", cwd=tmp_path)
    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    brief = ("--word", "church", "--restarts", "1", "--steps", "1", "--points", "1", "--held", "1")
    said = run(
        "invert", tmp_path, *brief, *model, "--out", "c.ti.safetensors", cwd=tmp_path, code=0 if row.invert else 1
    )
    assert ("token: <church>" if row.invert else "tokens are learned for text encoders of CLIP alone") in said


def test_the_table_says_what_the_kinds_and_formats_say() -> None:
    assert {name for kind in kinds() for name in kind.families} == {*DRAWN}
    for name, row in KNOWN.items():
        suits = tuple(kind for kind, known in FORMATS.items() if row.erase and known.suits(by_name(name)))
        assert row.formats == suits


def test_single_files_are_promised_for_the_families_that_have_them() -> None:
    assert {name for name, row in KNOWN.items() if "single-file" in row.formats} == set(ldm.NAMES)


def test_a_lora_is_promised_where_the_pipeline_loads_one() -> None:
    for name, row in KNOWN.items():
        if row.erase:
            loads = any(hasattr(getattr(diffusers, kind), "load_lora_weights") for kind in by_name(name).pipelines)
            assert ("lora" in row.formats) == loads, name


def test_families_prints_the_table_and_says_the_same_as_json(tmp_path: Path) -> None:
    said = run("families", cwd=tmp_path)
    assert "evaluate" in said and "●" in said
    listed = {entry["name"]: entry["support"] for entry in json.loads(run("families", "--json", cwd=tmp_path))}
    assert {name: (row["erase"], row["draw"]) for name, row in listed.items()} == {
        name: (row.erase, row.draw) for name, row in KNOWN.items()
    }


def test_a_flow_is_inspected_and_attacked_by_what_it_has_steps_for(
    folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    model = ("--model", folder_of("sd3"))
    erase = ("erase", "--concept", "church", "--guide", "dog", "--method", "uce", "--protect", "none", "--lamb", "0.01")
    run(*erase, *model, "--out", "e.safetensors", cwd=tmp_path)
    (tmp_path / "words.txt").write_text("church\ndog\n")
    few = ("--vocabulary", "words.txt", "--seeds", "0", "--points", "2", "--out", "i.csv")
    run("inspect", "base", "e.safetensors", *model, *few, cwd=tmp_path)
    rows = list(csv.DictReader((tmp_path / "i.csv").open()))
    assert {row["word"] for row in rows} == {"church", "dog"} and all(float(row["change"]) > 0 for row in rows)
    judged = ("--detector", "emoji-judge", "--pictures", "1", "--size", "16x16", "--steps", "1")
    run("attack", "e.safetensors", *model, "--attack", "random", *judged, "--out", "found", cwd=tmp_path)
    assert (tmp_path / "found" / "attack.json").is_file()
    for name in ("unlearndiff", "tina", "noise-probe", "cce-rows"):
        said = run("attack", "e.safetensors", *model, "--attack", name, cwd=tmp_path, code=1)
        assert f"attack {name}: its steps are those of a model that predicts noise" in said and "seed-search" in said


def test_the_page_on_families_shows_the_table() -> None:
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "model-families.md").read_text(encoding="utf-8")
    for row in KNOWN.values():
        draw = "●" if row.draw else ""
        cells = [f"`{row.family}`", row.title, "●" if row.erase else "", draw, draw, draw, "●" if row.refine else ""]
        cells.append("●" if row.invert else "")
        assert f"| {' | '.join([*cells, ', '.join(row.formats)])} |" in page, row.family
