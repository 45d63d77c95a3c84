"""A recipe's matrix: which stages are repeated, what they take then; and that `papers.toml` makes the README's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from editkit.chaining.jobs import jobs_of
from editkit.chaining.opened import RecipeRun, open_run
from editkit.chaining.recipe import load_recipe, parse_recipe
from editkit.edits.method import Options
from editkit.emoji.papers_table import ROWS, gathered
from editkit.emoji.rows import closed_form
from editkit.emoji.sheets import SELECTION
from editkit.errors import EditkitError
from editkit.evaluation.suites.suite import load_suite
from editkit.model.editable import open_model
from editkit.tuning.options import RefineOptions
from editkit.variants.edit_file import load_linear
from editkit.variants.named import record_of

MATRIX = """
[matrix]
split = ["1", "2"]
way = ["uce", "rece"]

[stage.gone]
do = "erase"
suite = "emoji-objects"
split = "{split}"
method = "{way}"

[stage.whole]
do = "erase"
concepts = ["{split} dogs"]

[stage.half]
do = "moderate"
concepts = ["dog"]
strength = [0.25, 0.5]

[stage.hard]
do = "harden"
edit = "gone"

[stage.scores]
do = "evaluate"
edits = ["base", "half", "whole", "hard-1-uce"]
suite = "emoji-objects"

[stage.seen]
do = "compare"
edits = ["gone-2-rece", "half"]
prompts = ["a gone dog", "gone"]
"""


def stages(text: str) -> dict[str, Any]:
    return {**parse_recipe(text, Path("chain.toml")).stages}


def test_a_stage_is_repeated_for_the_words_that_it_says_and_for_those_of_what_it_takes() -> None:
    made = stages(MATRIX)
    points = ["1-uce", "1-rece", "2-uce", "2-rece"]
    assert [name for name in made if name.startswith("gone")] == [f"gone-{point}" for point in points]
    assert (made["gone-2-rece"]["split"], made["gone-2-rece"]["method"]) == ("2", "rece")
    assert [name for name in made if name.startswith("whole")] == ["whole-1", "whole-2"]
    assert made["whole-2"]["concepts"] == ["2 dogs"] and made["half"]["strength"] == [0.25, 0.5]
    assert {name: made[name]["edit"] for name in made if name.startswith("hard")} == {
        f"hard-{point}": f"gone-{point}" for point in points
    }
    assert made["scores-1"]["edits"] == ["base", "half", "whole-1", "hard-1-uce"] and "scores-1-uce" not in made
    assert made["seen"]["edits"] == ["gone-2-rece", "half"] and made["seen"]["prompts"] == ["a gone dog", "gone"]
    jobs = {job.name: job for job in jobs_of(parse_recipe(MATRIX, Path("chain.toml")))}
    assert [job.name for job in jobs["scores-2"].takes] == [
        "half-strength0.25",
        "half-strength0.5",
        "whole-2",
        "hard-1-uce",
    ]


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ("matrix = 3", "matrix: expected a table .matrix., got 3"),
        ("[matrix]\nsplit = 3", r"matrix.split: expected a list of texts, such as .*, got 3"),
        ("[matrix]\nsplit = []", "matrix.split: expected a list of texts"),
        ("[matrix]\nsplit = [1]", r"matrix.split: expected a list of texts, .*, got \[1\]"),
        ("[matrix]\nsplt = ['1']", r"matrix.splt: no stage says {splt}; write it where the value is to stand"),
    ],
)
def test_a_matrix_that_says_nothing_is_told(matrix: str, says: str) -> None:
    with pytest.raises(EditkitError, match=says):
        parse_recipe(f"{matrix}\n[stage.gone]\ndo = 'erase'\nconcepts = ['{{split}}']\n", Path("chain.toml"))


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ('suite = "emoji-objects"\nsplit = "9"', "split '9': suite emoji-objects has 1, 2, 3, 4"),
        ('suite = "emoji-objects"\nsplit = "1"\nconcepts = ["dog"]', "split: goes in place of concepts"),
        ('suite = "emoji-object"\nsplit = "1"', "suite 'emoji-object': did you mean emoji-objects"),
    ],
)
def test_a_split_that_names_no_concepts_is_told_before_anything_starts(stage: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "chain.toml"
    path.write_text(f'model = "emoji"\n[stage.gone]\ndo = "erase"\n{stage}\n')
    with pytest.raises(EditkitError, match=f"stage gone.*: .*{says}"):
        open_run(path).check()


def test_a_guard_leads_away_from_what_the_split_erases(tmp_path: Path) -> None:
    said = """do = "evaluate"
edits = ["base", "{name}"]
suite = "emoji-objects"
split = "{{split}}"
"""
    path = tmp_path / "chain.toml"

    def opened(name: str, said: str = said) -> RecipeRun:
        path.write_text(f'model = "emoji"\n[matrix]\nsplit = ["1", "2"]\n[stage.scores]\n{said.format(name=name)}')
        return open_run(path)

    suite = load_suite("emoji-objects")
    for job, split in zip(opened("base+sld:max={concepts}").jobs, ("1", "2"), strict=True):
        assert job.inputs["edits"] == ("base", f"base+sld:max={', '.join(suite.concepts_in(split))}")
        assert record_of(str(job.inputs["edits"][1]))["concepts"] == suite.concepts_in(split)
    for name, says in {
        "base+sld:maxi={concepts}": "sld has no setting 'maxi'", "gone+sld=dog": "write base\\+sld=dog",
    }.items():  # fmt: skip
        with pytest.raises(EditkitError, match=f"stage scores-1: .*{says}"):
            opened(name)
    with pytest.raises(EditkitError, match="stands for those of the stage's suite and split; it says none"):
        opened(
            "base+sld={concepts}", 'do = "compare"\nedits = ["{name}"]\nprompts = ["a dog on {{split}}"]\nseeds="0"\n'
        )


def test_the_papers_chain_makes_the_edits_of_the_table(tmp_path: Path) -> None:
    """The closed forms to the bit, what is trained by its options."""
    assert [*ROWS] == [*SELECTION.also]
    model, run = open_model("emoji"), open_run("papers", tmp_path)
    jobs = {job.name: job for job in run.jobs}
    suite = load_suite("emoji-objects")
    for split in suite.splits:
        assert {stage.format(split) for stage in ROWS.values()} - {"base"} <= {*jobs}
    concepts = suite.concepts_in("3")
    rows = {
        "RECE, none": (Options("rece", protect="none"), "none"),
        "UCE tail, minimax": (Options("uce", protect="minimax", tokens="tail"), "minimax"),
    }
    for name, (options, protect) in rows.items():
        job = jobs[ROWS[name].format("3")]
        job.kind.run(run.task(job))
        mine = load_linear(job.product(tmp_path)).map
        theirs = load_linear(closed_form(options, protect)(model, concepts, tmp_path / "row")).map
        assert torch.equal(mine.dense(), theirs.dense()), name
    for name, objective in (("AP, warm, 250 steps", "ap"), ("AGE", "age"), ("ESD-x", "esd"), ("CA", "ca")):
        said = run.task(jobs[ROWS[name].format("1")]).options
        wanted = RefineOptions.of(objective, model.profile, steps=250, refresh=100)
        assert RefineOptions.of(profile=model.profile, **said) == wanted, name
    with pytest.raises(EditkitError, match="uce-published-1 is not done; run"):
        gathered(run)


def test_the_papers_chain_says_how_long_it_takes() -> None:
    committed = json.loads((Path(__file__).parent / "bench" / "papers.json").read_text())
    assert load_recipe("papers").minutes == round(committed["minutes"])
