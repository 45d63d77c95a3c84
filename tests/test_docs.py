"""The pages: what they tell a reader to type is there, and nothing is left out of the reference."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import editkit
from docs.hooks import ROOMS, command_lines, commands, component_lines, group_lines, name_lines
from editkit import plugins
from editkit.concepts.profile_file import TOP, parse_profile
from editkit.drawing.prompt_rows import PROMPTS
from editkit.edits.compose import scale
from editkit.erasure.presets.preset_file import parse_preset
from editkit.evaluation.suites.suite import load_suite, suite_names
from editkit.plugins import GROUPS
from tests.cli import run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
names = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def typed_lines(page: Path) -> list[str]:
    """What is typed in a shell: whole lines of blocks, and commands in a sentence or a table."""
    shell = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [line for line in (*shell, *re.findall(r"`(editkit [a-z]+ [^`]*)`", text)) if line.startswith("editkit ")]


@names
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    known = commands()
    for line in typed_lines(page):
        words = shlex.split(line)
        typed = next((" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in known), None)
        assert typed is not None, f"{line}: no such command"
        given = words[len(typed.split()) :]
        known[typed].make_context(typed, given, resilient_parsing=not any(word.startswith("-") for word in given))


@names
def test_python_of_a_page_uses_public_names(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")
        used = re.sub(r"^(from|import) editkit.*$", "", code, flags=re.MULTILINE)
        assert {*re.findall(r"\beditkit\.(\w+)", used)} <= {*editkit.__all__}


def test_the_suite_of_the_page_is_one(tmp_path: Path) -> None:
    texts = blocks(ROOT / "docs" / "how-to" / "evaluate.md", "toml")
    names = ("my-objects", "my-backgrounds")
    for text, name in zip(texts, names, strict=True):
        (tmp_path / "mine.toml").write_text(text)
        assert load_suite(str(tmp_path / "mine.toml")).name == name


def test_the_profile_of_the_page_is_one_and_its_keys_are_all(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "profiles.md"
    (text,) = blocks(page, "toml")
    assert parse_profile(text, tmp_path / "birds.toml").name == "birds"
    assert sorted(re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)) == sorted(TOP)


def test_the_preset_of_the_page_is_one_and_its_table_is_what_there_is() -> None:
    page = ROOT / "docs" / "how-to" / "erase.md"
    (text,) = blocks(page, "toml")
    assert parse_preset(text, ROOT / "mine.toml").options().name == "uce"
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", page.read_text().split("## Methods")[0], re.MULTILINE)
    assert {name: re.findall(r"`(\w+)`", methods) for name, methods in rows} == {
        preset.name: [*preset.methods] for preset in editkit.presets()
    }


def test_the_columns_of_the_page_are_those_that_are_read() -> None:
    text = (ROOT / "docs" / "how-to" / "prompt-files.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| (`.*`) \|$", text, re.MULTILINE)
    stated = [tuple(re.findall(r"`(\w+)`", row)) for row in rows]
    assert stated == list(PROMPTS.columns.values())


def test_the_pages_name_every_suite_detector_and_format() -> None:
    evaluate, export = ((ROOT / "docs" / "how-to" / f"{name}.md").read_text() for name in ("evaluate", "export"))
    for name in (*suite_names(), *GROUPS["detectors"].own):
        assert f"`{name}`" in evaluate, name
    for name in GROUPS["formats"].own:
        assert f"| `{name}` |" in export, name


@names
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        path = target.partition("#")[0]
        if path and "://" not in path:
            assert (page.parent / path).exists(), target


@names
def test_paths_of_a_page_are_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for path in re.findall(r"`((?:editkit|cli|tests|docs|notebooks)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_how_it_works_lists_every_package() -> None:
    listed = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs" / "how-it-works.md").read_text(), re.MULTILINE)
    packages = {f"editkit.{init.parent.name}" for init in (ROOT / "editkit").glob("*/__init__.py")}
    assert {*listed} == packages | {"editkit.options", "editkit.plugins", "editkit_cli"}


def test_every_command_has_a_section_with_all_its_options(tmp_path: Path) -> None:
    page = "\n".join(command_lines())
    listed = re.findall(r"^│ (\w+) ", run("--help", cwd=tmp_path).split("Commands")[1], re.MULTILINE)
    assert len(listed) > 10
    assert {*listed} == {heading.split()[0] for heading in re.findall(r"^## editkit (.+)$", page, re.MULTILINE)}
    for typed, command in commands().items():
        section = page.split(f"\n## {typed}\n")[1].split("\n## ")[0]
        assert command.help in section
        for parameter in command.params:
            assert re.search(rf"^\| `.*{re.escape(parameter.opts[-1])}\b", section, re.MULTILINE), parameter.name


def test_every_public_name_is_in_the_reference() -> None:
    page = "\n".join(name_lines())
    assert sorted(re.findall(r"^::: editkit\.(\w+)$", page, re.MULTILINE)) == sorted(editkit.__all__)
    assert all(heading in ROOMS.values() for heading in re.findall(r"^## (.+)$", page, re.MULTILINE))


@pytest.mark.parametrize("name", [name for name in editkit.__all__ if inspect.isfunction(getattr(editkit, name))])
def test_args_of_a_public_function_are_its_parameters(name: str) -> None:
    """One a line, as the builder of the reference reads them."""
    function = getattr(editkit, name)
    section = (inspect.getdoc(function) or "").partition("Args:\n")[2].split("\n\n")[0]
    documented = re.findall(r"^    (\S[^:\n]*):", section, re.MULTILINE)
    assert {*documented} <= {*inspect.signature(function).parameters}


def test_every_component_is_listed_with_its_options() -> None:
    page, table = "\n".join(component_lines()), "\n".join(group_lines())
    for group in plugins.GROUPS:
        assert f"`editkit.{group}`" in table
        section = page.split(f"\n## {group.capitalize()}\n")[1].split("\n## ")[0]
        for component in plugins.describe(group):
            part = section.split(f"\n### {component.name}\n")[1].split("\n### ")[0]
            assert component.summary in part and component.source in part
            named = [known.flag if plugins.GROUPS[group].flags else known.name for known in component.options]
            assert re.findall(r"^\| `([\w/-]+)`", part, re.MULTILINE) == named


def test_the_page_has_every_key_that_a_program_reads() -> None:
    section = (ROOT / "docs" / "how-to" / "plug-ins.md").read_text(encoding="utf-8").split("## What a program reads")[1]
    stated = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)]
    printed = next(component.as_dict() for component in plugins.describe("methods"))
    assert {name for row in stated for name in row} == {*printed, *printed["options"][0]}


def test_the_method_of_the_page_goes_part_of_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [code for code in blocks(ROOT / "docs" / "how-to" / "plug-ins.md", "python") if "class Halved" in code]
    (tmp_path / "halved_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    halved: Any = import_module("halved_of_the_page").Halved
    model = editkit.open_model("emoji")
    half = editkit.erase(model, ["church"], options=halved(protect="prior", part=0.25))
    whole = editkit.erase(model, ["church"], options=editkit.Options("uce", protect="prior"))
    assert torch.allclose(half.map.dense(), scale(whole, 0.25).map.dense(), atol=1e-12)
    assert half.record["options"]["part"] == 0.25


def test_all_places_state_the_same_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    newest = re.search(r"^## \[([\d.]+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] == version
    assert f"\nversion: {version}\n" in citation and f'\ndate-released: "{newest[2]}"\n' in citation
