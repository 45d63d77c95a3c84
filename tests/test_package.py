"""What is installed: two importable packages, a command, and the bundled model."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import editkit

ROOT = Path(__file__).parent.parent


def test_editable_install_has_the_command() -> None:
    (command,) = entry_points(group="console_scripts", name="editkit")
    assert command.value == "editkit_cli.main:main"
    assert callable(command.load())


@pytest.mark.slow
def test_wheel(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(words, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    top = {name.split("/")[0] for name in names}
    assert {"editkit", "editkit_cli"} <= top and "cli" not in top and "tests" not in top and "runs" not in top
    for needed in (
        "py.typed",
        "emoji/model/unet/diffusion_pytorch_model.safetensors",
        "emoji/judge.safetensors",
        "embeddings/clip_bpe/merges.txt.gz",
    ):
        assert f"editkit/{needed}" in names
    assert wheel.stat().st_size < 55e6


def test_the_mathematics_imports_torch_alone() -> None:
    probe = (
        "import sys, editkit.edits.method, editkit.edits.figures, editkit.edits.time\n"
        "found = {'diffusers', 'transformers', 'safetensors', 'PIL', 'typer', 'rich'} & set(sys.modules)\n"
        "sys.exit(', '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_readme_states_the_committed_tables() -> None:
    from editkit.emoji.sheets import SELECTION, SHEETS, as_markdown, chosen

    results, papers = (
        json.loads((ROOT / "tests" / "bench" / f"{name}.json").read_text()) for name in ("results", "papers")
    )
    readme, findings = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/findings.md"))
    assert {name for sheet in SHEETS for name in chosen(sheet, results)} == {*results["rows"]}
    assert [*papers["rows"]] == [*SELECTION.also] == [*chosen(SELECTION, papers)]
    for text, sheet, measured in ((readme, SELECTION, papers), *((findings, sheet, results) for sheet in SHEETS)):
        assert as_markdown(sheet, measured) in text, as_markdown(sheet, measured)
    assert readme.count("| --- |") == 2 and len(readme.splitlines()) <= 150


def test_the_findings_state_the_committed_attacks() -> None:
    from editkit.emoji.attack_table import as_markdown, rounds_as_markdown

    results = json.loads((ROOT / "tests" / "bench" / "attacks.json").read_text())
    findings = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert as_markdown(results) in findings, as_markdown(results)
    assert rounds_as_markdown(results, "UCE, hardened", "1") in findings


def test_the_table_of_all_methods_is_what_was_measured() -> None:
    from editkit.emoji.methods_table import BEST, as_markdown

    costs, attacks, many = (
        json.loads((ROOT / "tests" / "bench" / f"{name}.json").read_text()) for name in ("methods", "attacks", "many")
    )
    readme, findings = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/findings.md"))
    assert as_markdown(costs, attacks, many) in findings, as_markdown(costs, attacks, many)
    assert len(BEST) == 10 and as_markdown(costs, attacks, many, BEST) in readme


def test_the_page_of_rivals_states_what_was_measured() -> None:
    from editkit.emoji.rivals_table import as_markdown, as_picture

    results = json.loads((ROOT / "tests" / "bench" / "rivals.json").read_text())
    assert as_markdown(results).strip() in (ROOT / "docs" / "rivals.md").read_text(encoding="utf-8")
    assert as_picture(results) == (ROOT / "docs" / "pictures" / "rivals.svg").read_text(encoding="utf-8")


def test_the_findings_state_the_committed_losses() -> None:
    from editkit.emoji.loss_table import as_markdown

    prompts = json.loads((ROOT / "tests" / "bench" / "losses.json").read_text())
    assert as_markdown(prompts) in (ROOT / "docs" / "findings.md").read_text(encoding="utf-8"), as_markdown(prompts)


def test_the_table_of_guides_is_what_was_measured() -> None:
    from editkit.emoji.guide_table import as_markdown

    results = json.loads((ROOT / "tests" / "bench" / "guides.json").read_text())
    assert as_markdown(results).strip() in (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")


def test_the_table_of_many_concepts_is_what_was_measured() -> None:
    from editkit.emoji.many_table import as_markdown

    results = json.loads((ROOT / "tests" / "bench" / "many.json").read_text())
    assert as_markdown(results).strip() in (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")


def test_the_findings_state_the_committed_suites() -> None:
    from editkit.emoji import suite_table as table
    from editkit.evaluation.suites.suite import load_suite

    results = json.loads((ROOT / "tests" / "bench" / "suites.json").read_text())
    assert results["suites"] == {name: load_suite(name).sha256 for name in results["suites"]}
    findings = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    for shown in (
        table.binding_as_markdown, table.styles_as_markdown, table.seen_as_markdown, table.groups_as_markdown,
    ):  # fmt: skip
        assert shown(results) in findings, shown(results)


def test_the_tables_of_protected_words_are_what_was_measured() -> None:
    from editkit.emoji import damage_table, protect_table

    findings = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    protected, damage = (
        json.loads((ROOT / "tests" / "bench" / name).read_text()) for name in ("protect.json", "damage.json")
    )
    for table in (protect_table.as_markdown(protected), protect_table.distance_markdown(protected)):
        assert table in findings, table
    assert damage_table.as_markdown(damage) in findings, damage_table.as_markdown(damage)


def test_the_findings_state_what_a_thousand_concepts_cost() -> None:
    from tests.bench.thousand import as_markdown

    known = json.loads((ROOT / "tests" / "bench" / "thousand.json").read_text())
    findings = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert as_markdown(known) in findings, as_markdown(known)
    encoded, scored = known["encode"], known["score"]["phases"]
    stated = (
        encoded["phases"]["together"]["cpu_s"] / encoded["concepts"],
        scored["score an edit of rank 5"]["cpu_s"],
        scored["sizes, once a vocabulary"]["cpu_s"],
    )
    for seconds in stated:
        assert f"{seconds:.2g} s" in findings, seconds


def test_the_findings_state_the_committed_synonyms() -> None:
    from editkit.emoji.synonym_table import as_markdown, pairs

    results = json.loads((ROOT / "tests" / "bench" / "synonyms.json").read_text())
    assert [(row["word"], row["synonym"]) for row in results["pairs"]] == pairs()
    assert as_markdown(results) in (ROOT / "docs" / "findings.md").read_text(encoding="utf-8"), as_markdown(results)


def test_the_findings_state_the_committed_edits_of_prompts() -> None:
    from editkit.emoji.time_table import as_markdown, edits_as_markdown
    from editkit.evaluation.suites.suite import load_suite

    results = json.loads((ROOT / "tests" / "bench" / "time.json").read_text())
    findings = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert results["suite"] == load_suite("emoji-time").sha256 and len(results["edits"]) == 14
    for table in (as_markdown(results), edits_as_markdown(results)):
        assert table in findings, table


def test_names_at_the_top_are_what_they_say() -> None:
    for name in editkit.__all__:
        assert getattr(editkit, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = editkit.nothing


def test_every_command_has_a_function_of_its_name() -> None:
    from editkit_cli.main import COMMANDS

    assert {*COMMANDS} <= {*editkit.__all__}, "a command that Python lacks"


@pytest.mark.parametrize("name", editkit.__all__)
def test_public_functions_say_what_they_take_and_refuse(name: str) -> None:
    function = getattr(editkit, name)
    if not inspect.isfunction(function):
        return
    text, parameters = inspect.getdoc(function) or "", inspect.signature(function).parameters
    assert not parameters or "Args:" in text, "what it takes"
    assert "Raises:" in text or not parameters, "what it refuses"
    assert all(known.annotation is not known.empty for known in parameters.values())
