"""Recipes: what a file may say, which jobs it means, and that each is done once for what it is made of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import editkit
from editkit.chaining.jobs import jobs_of
from editkit.chaining.opened import open_run
from editkit.chaining.recipe import load_recipe, parse_recipe, recipe_names
from editkit.chaining.run import run
from editkit.chaining.state import EARLIER
from editkit.edits.method import Options
from editkit.errors import EditkitError
from editkit.inverting.options import InvertOptions
from editkit.inverting.points import NoisyPictures, Points
from editkit.variants.edit_file import load_linear
from editkit.variants.learned_file import load_learned
from tests.pictures_of_emoji import noise

CHAIN = """
model = "emoji"
[stage.gone]
do = "erase"
concepts = ["church"]
method = ["uce", "rece"]
protect = "none"
[stage.half]
do = "compose"
edits = ["gone"]
scale = 0.5
[stage.file]
do = "export"
edit = "gone"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "chain.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def names(text: str) -> list[str]:
    return [job.name for job in jobs_of(parse_recipe(text, Path("chain.toml")))]


def made(path: Path, out: Path) -> list[str]:
    """The stages that a run did, by what it told."""
    told: list[str] = []
    run(path, out, tell=told.append)
    return [line.split()[1].removesuffix(":") for line in told if "done in" in line]


def test_a_list_where_none_is_expected_makes_variants_of_all_that_follows() -> None:
    jobs = {job.name: job for job in jobs_of(parse_recipe(CHAIN, Path("chain.toml")))}
    assert list(jobs) == ["gone-uce", "gone-rece", "half", "file-uce", "file-rece"]
    assert [job.name for job in jobs["half"].takes] == ["gone-uce", "gone-rece"]
    assert [job.name for job in jobs["file-rece"].takes] == ["gone-rece"]
    assert jobs["gone-rece"].said["concepts"] == ["church"]  # a list where one is expected is a value
    two = CHAIN.replace('protect = "none"', "lamb = [0.1, 1.0]")
    assert names(two)[:4] == ["gone-uce-lamb0.1", "gone-uce-lamb1.0", "gone-rece-lamb0.1", "gone-rece-lamb1.0"]


def test_a_recipe_of_ours_has_its_name_with_the_ending_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of that name comes first."""
    monkeypatch.chdir(tmp_path)
    assert load_recipe("papers.toml") == load_recipe("papers")
    with pytest.raises(EditkitError, match=r"recipe paper.toml: cannot be read"):
        load_recipe("paper.toml")
    Path("papers.toml").write_text(CHAIN, encoding="utf-8")
    assert [*load_recipe("papers.toml").stages] == [*parse_recipe(CHAIN, Path("papers.toml")).stages]
    assert load_recipe("papers").stages != load_recipe("papers.toml").stages


def test_a_stage_does_what_the_function_of_its_name_does(recipe: Callable[[str], Path], tmp_path: Path) -> None:
    done = run(recipe(CHAIN), tmp_path / "run")
    direct = editkit.erase("emoji", ["church"], options=Options("rece", protect="none"))
    stored = load_linear(done.jobs[1].product(done.folder))
    for name, edit_map in direct.maps.items():
        torch.testing.assert_close(stored.maps[name].dense(), edit_map.dense(), rtol=1e-5, atol=1e-6)
    assert done.finished
    assert (done.folder / "index.html").read_text(encoding="utf-8").count("<tr>") >= len(done.jobs)


def test_a_second_run_does_nothing_and_a_changed_value_does_what_depends_on_it(
    recipe: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert made(recipe(CHAIN), out) == ["gone-uce", "gone-rece", "half", "file-uce", "file-rece"]
    assert made(recipe(CHAIN), out) == []
    assert made(recipe(CHAIN.replace("scale = 0.5", "scale = 0.25")), out) == ["half"]
    assert made(recipe(CHAIN.replace("church", "castle")), out) == [
        "gone-uce",
        "gone-rece",
        "half",
        "file-uce",
        "file-rece",
    ]
    before = (out / "half" / "half.safetensors").read_bytes()
    assert made(recipe(CHAIN), out) == []  # what was put away comes back
    assert (out / "half" / "half.safetensors").read_bytes() != before
    assert len(list((out / EARLIER).iterdir())) == 6
    plan = {each.job.name: each.state for each in open_run(recipe(CHAIN.replace("0.5", "0.1")), out).plan()}
    assert plan == {"gone-uce": "done", "gone-rece": "done", "half": "changed", "file-uce": "done", "file-rece": "done"}


def test_a_stage_that_was_cut_short_is_done_again(recipe: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    made(recipe(CHAIN), out)
    state = out / "half" / "stage.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"ended": ""}))
    (out / "gone-uce" / "stage.json").write_text('{"key": "', encoding="utf-8")  # as a power cut leaves it
    assert set(made(recipe(CHAIN), out)) == {"gone-uce", "half"}


def test_two_processes_share_a_folder(recipe: Callable[[str], Path], tmp_path: Path) -> None:
    words = [sys.executable, "-m", "editkit_cli", "run", str(recipe(CHAIN)), "--out", str(tmp_path / "run"), "--shard"]
    both = [subprocess.Popen([*words, f"{n}/2"], stderr=subprocess.PIPE, text=True) for n in range(2)]
    told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    done = [line.split()[1] for text in told for line in text.splitlines() if "done in" in line]
    assert sorted(done) == sorted(f"{name}:" for name in names(CHAIN))  # each once
    assert open_run(recipe(CHAIN), tmp_path / "run").finished
    assert (tmp_path / "run" / "index.html").is_file()


def test_a_launched_stage_makes_the_same(recipe: Callable[[str], Path], tmp_path: Path) -> None:
    text = CHAIN.split("[stage.half]")[0].replace('["uce", "rece"]', '"uce"')
    python = Path(sys.executable).as_posix()
    launched = f'{text}launch = "{python}"\n'
    runs = [run(recipe(each), tmp_path / name) for name, each in (("a", text), ("b", launched))]
    first, second = (load_linear(done.jobs[0].product(done.folder)) for done in runs)
    for name, edit_map in first.maps.items():
        assert torch.equal(second.maps[name].dense(), edit_map.dense())
    with pytest.raises(EditkitError, match=r"stage gone: launch: .* ended with status 1"):
        run(recipe(launched.replace(python, f"{python} -c 1/0")), tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("do = \"erase\"", "do = \"eraze\""), r"stage gone: kind of stage 'eraze': did you mean erase\?"),
        (("concepts =", "concept ="), r"stage gone: concept: no such field; did you mean concepts\?"),
        (("scale = 0.5", "scale = true"), r"stage half: scale: expected a number, got True"),
        (('edits = ["gone"]', 'edits = ["gond"]'), r"half: 'gond': no such stage, variant or file; did you mean gone"),
        (('edits = ["gone"]', 'edits = ["file"]'), r"stage half: file: a stage that makes no edit \(export\)"),
        (('edits = ["gone"]', 'edits = ["half"]'), r"stages wait for each other in a circle \(half → half\)"),
        (('edits = ["gone"]\n', ""), r"stage half: edits: missing; it is a list or a text"),
        (('concepts = ["church"]\n', ""), r"stage gone-uce: no concept given"),
        (('protect = "none"', "lamb = -1"), r"stage gone: lamb: expected a finite number above 0"),
        (("[stage.half]", "[stages.half]"), r"stages: no such key; did you mean stage\?"),
        (("[stage.half]", "[stage.half"), r"expected TOML"),
    ],
)  # fmt: skip
def test_a_faulty_recipe_is_told_before_anything_starts(
    change: tuple[str, str], says: str, recipe: Callable[[str], Path], tmp_path: Path
) -> None:
    assert change[0] in CHAIN
    with pytest.raises(EditkitError, match=says):
        run(recipe(CHAIN.replace(*change)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ('do = "erase"\nconcepts = ["chruch"]', "never learned the word 'chruch'; did you mean church"),
        (
            'do = "evaluate"\nedits = ["gone"]\nsuite = "emoji-object"',
            "suite 'emoji-object': did you mean emoji-objects",
        ),
        (
            'do = "evaluate"\nedits = ["gone"]\nsuite = "emoji-objects"\nsplit = "9"',
            "split '9': suite emoji-objects has 1",
        ),
        ('do = "attack"\nvariants = ["gone"]\nattacks = ["promt"]', "did you mean prompt"),
        ('do = "compare"\nedits = ["gone"]\nseeds = "x"', "seeds"),
        ('do = "refine"\nstart = "gone"\nobjective = "app"', "objective 'app': did you mean ap"),
        (
            'do = "refine"\nstart = "gone"\nobjective = "esd"\nrounds = 2',
            "--rounds: --objective esd has no rounds; use --objective stereo",
        ),
        ('do = "export"\nedit = "gone"\nformat = "kvv"', "format 'kvv': did you mean kv"),
    ],
)
def test_what_a_stage_cannot_do_is_told_before_anything_starts(
    stage: str, says: str, recipe: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(EditkitError, match=f"stage late.*: .*{says}"):
        run(recipe(f"{CHAIN}[stage.late]\n{stage}\n"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_part_that_is_none_is_refused_before_anything_is_written(
    recipe: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(EditkitError, match=r"--shard: expected i/n with i from 0 to n - 1, got 2/2"):
        run(recipe(CHAIN), tmp_path / "run", shard=(2, 2))
    assert not (tmp_path / "run").exists()


def test_a_folder_of_somebody_else_is_left_alone(recipe: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(EditkitError, match=r"holds other things than a run \(run.json is missing\)"):
        run(recipe(CHAIN), tmp_path)


def test_another_model_changes_what_its_table_says() -> None:
    text = f"""{CHAIN}
[[published]]
stage = "half"
variant = "half"
metric = "esr-1"
value = 1
source = "a paper"
[on.small]
without = ["published"]
[on.small.stage.gone]
concepts = ["dog"]
without = ["protect"]
[on.small.stage]
without = ["file"]
"""
    recipe = parse_recipe(text, Path("chain.toml"), "small")
    assert recipe.stages["gone"] == {"do": "erase", "concepts": ["dog"], "method": ["uce", "rece"]}
    assert list(recipe.stages) == ["gone", "half"]
    assert not recipe.published
    assert parse_recipe(text, Path("chain.toml")).published[0].value == 1
    with pytest.raises(EditkitError, match=r"--on big: expected a table \[on.big\], the file has small"):
        parse_recipe(text, Path("chain.toml"), "big")


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_can_be_done_on_the_bundled_model(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    stand_in = "" if recipe.model == "emoji" else "emoji"
    opened = open_run(name, tmp_path / "run", on=stand_in)
    opened.check()
    assert opened.model.source.name == "emoji"
    assert recipe.title and recipe.about and recipe.source
    stages = {job.stage: {other.name for other in jobs_of(recipe) if other.kind.makes} for job in jobs_of(recipe)}
    for each in recipe.published:  # names a variant that the recipe makes
        assert each.variant in {"base", *stages[each.stage]}, each


@pytest.mark.slow
def test_figures_of_a_run_stand_beside_published_ones(recipe: Callable[[str], Path], tmp_path: Path) -> None:
    text = """
model = "emoji"
[stage.gone]
do = "erase"
concepts = ["church"]
[stage.seen]
do = "evaluate"
edits = ["base", "gone"]
suite = "emoji-objects"
split = "1"
seeds = "0"
steps = 3
[stage.attacked]
do = "attack"
variants = ["gone"]
attacks = ["embedding"]
pictures = 1
steps = 3
"""
    for variant, metric, value in (("base", "esr-1", 1), ("base", "psr-1", 300), ("gone", "esr-9", 1)):
        text += f'[[published]]\nstage = "seen"\nvariant = "{variant}"\nmetric = "{metric}"\nvalue = {value}\n'
        text += 'source = "a paper"\n'
    done = run(recipe(text), tmp_path / "run")
    record = json.loads((done.folder / "run.json").read_text(encoding="utf-8"))
    assert {(each["stage"], each["variant"]) for each in record["figures"]} >= {("seen", "gone"), ("attacked", "gone")}
    verdicts = [each["verdict"] for each in record["published"]]
    low, high = (
        next(100 * each[end] for each in record["figures"] if each["metric"] == "esr-1") for end in ("low", "high")
    )
    assert verdicts == ["inside" if low <= 1 <= high else "outside", "outside", "not measured"]
    assert "outside the interval" in (done.folder / "index.html").read_text(encoding="utf-8")


PICTURED = """
model = "MODEL"
profile = "few.toml"
[stage.shown]
do = "invert"
pictures = "pictures"
word = "boat"
steps = 12
restarts = 2
held = 4
points = 2
[stage.gone]
do = "erase"
picture = "shown"
guides = ["church"]
method = "uce"
protect = "none"
checked = false
[stage.trained]
do = "refine"
picture = ["shown"]
start = "gone"
objective = "stereo"
rounds = 1
erase_steps = 1
learn_steps = 1
learn_pictures = 1
steps = 1
batch = 1
sampling_steps = 2
mixed_precision = "no"
"""


def test_pictures_are_inverted_and_what_takes_them_is_done_again_with_other_ones(
    recipe: Callable[[str], Path], tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C leaves a stage that goes on."""
    (tmp_path / "pictures").mkdir()
    noise(1)[0].save(tmp_path / "pictures" / "a.png")
    (tmp_path / "few.toml").write_text("words = ['boat', 'church', 'dog', 'house']\n", encoding="utf-8")
    text, out = PICTURED.replace("MODEL", str(tiny_sd)), tmp_path / "run"
    options = InvertOptions(steps=12, restarts=2, held=4, points=2)
    model = editkit.open_model(tiny_sd, profile=tmp_path / "few.toml")
    expected = editkit.invert(model, tmp_path / "pictures", "boat", options=options)
    real, asked = NoisyPictures.at, []

    def pressed(self: NoisyPictures, t: torch.Tensor, generator: torch.Generator) -> Points:
        asked.append(1)
        if len(asked) == 20:
            raise KeyboardInterrupt
        return real(self, t, generator)

    monkeypatch.setattr(NoisyPictures, "at", pressed)
    with pytest.raises(KeyboardInterrupt):
        run(recipe(text), out)
    assert [each.state for each in open_run(recipe(text), out).plan()] == ["begun", "new", "new"]
    assert made(recipe(text), out) == ["shown", "gone", "trained"]
    learned = load_learned(out / "shown" / "shown.ti.safetensors")
    assert all(torch.equal(a[0], b[0]) for a, b in zip(learned.restarts, expected.restarts, strict=True))
    direct = editkit.erase(
        model, pictures=[expected], guides=["church"], options=Options("uce", protect="none"), checked=False
    )
    stored = load_linear(out / "gone" / "gone.safetensors")
    for name, edit_map in direct.maps.items():
        torch.testing.assert_close(stored.maps[name].dense(), edit_map.dense(), rtol=1e-5, atol=1e-6)
    trained = editkit.info(out / "trained" / "trained")
    assert trained["concepts"] == ["boat"] and trained["start"]["method"] == "uce"
    assert trained["pictures"]["boat"]["restarts"] == 3  # one of them found in the round
    assert made(recipe(text), out) == []
    with pytest.raises(
        EditkitError, match="stage shown: --pictures missing: expected a folder of pictures, found none"
    ):
        run(recipe(text.replace('pictures = "pictures"', 'pictures = "missing"')), tmp_path / "other")
    with pytest.raises(EditkitError, match="gone: a stage that is no invert"):
        jobs_of(parse_recipe(text.replace('picture = ["shown"]', 'picture = ["gone"]'), Path("chain.toml")))
