"""The rooms of the package and the order that they are built in: an import may only go down."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import editkit

ROOT = Path(editkit.__file__).parent
GROUND = ("errors", "seeds", "hardware", "progress", "options", "plugins", "versions", "listings")
ROOMS = (
    "files", "concepts", "edits", "embeddings", "model", "erasure", "variants", "drawing", "tuning", "inverting",
    "evaluation", "report", "redteam", "balancing", "gating", "publishing", "chaining", "emoji",
)  # fmt: skip
"""From the ground floor up."""
MATHEMATICS = {"torch", "numpy"}
"""What `edits/` may import besides the standard library and the ground floor; numpy for the digits of a key alone."""


def module_name(path: Path) -> str:
    return ".".join(("editkit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.fixture(scope="module")
def imports() -> Mapping[str, set[str]]:
    """Module → the modules of the package that it imports. The package itself names everything and is left out."""
    known = {name: path for name, path in MODULES.items() if name != "editkit"}
    return {name: {each for each in imported(path) if each in known} for name, path in known.items()}


def test_no_two_modules_import_each_other(imports: Mapping[str, set[str]]) -> None:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' → '.join(error.args[1])}")


def test_every_import_goes_down(imports: Mapping[str, set[str]]) -> None:
    floors = {name: n for n, name in enumerate((*GROUND, *ROOMS))}
    assert {room(name) for name in imports} == floors.keys(), "a room that has no place in the order, or one too many"
    up = [
        f"{name} imports {each}"
        for name, some in imports.items()
        for each in some
        if floors[room(each)] > floors[room(name)] and room(name) not in GROUND
    ]
    assert not up
    assert not [name for name in imports if room(name) in GROUND and any(room(each) in ROOMS for each in imports[name])]


def test_the_mathematics_imports_torch_alone() -> None:
    for name, path in MODULES.items():
        if name.startswith("editkit.edits"):
            foreign = {each.split(".")[0] for each in imported(path)} - {"editkit", "__future__"}
            assert foreign - set(sys.stdlib_module_names) <= MATHEMATICS, name


def test_nothing_reaches_into_the_command_line() -> None:
    assert not [
        name for name, path in MODULES.items() if any(each.startswith("editkit_cli") for each in imported(path))
    ]


def test_what_comes_with_an_extra_is_imported_where_it_is_used() -> None:
    """So that everything else works without it."""
    extras = {"accelerate", "peft", "torchao", "nudenet", "onnxruntime", "selenium", "resvg_py"}
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            assert not {str(module).split(".")[0] for module in modules} & extras, name
