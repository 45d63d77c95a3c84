"""What a model brings along: the bundled model's profile, a user's as a file, and how a faulty file is refused."""

from __future__ import annotations

import ast
import doctest
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch

from docs.hooks import commands
from editkit.concepts import profile, profile_file
from editkit.concepts.profile import DEFAULT, Judge, Profile
from editkit.concepts.profile_file import SAMPLING, read_profile
from editkit.concepts.templates import TEMPLATES
from editkit.concepts.vocabulary import common_words
from editkit.drawing.sampling import Sampling, Settings
from editkit.edits.edit import Edit
from editkit.edits.method import Options
from editkit.emoji import catalogue as taught
from editkit.emoji.profile import PROFILE
from editkit.erasure.erase import erase
from editkit.erasure.words import check_known, words_to_protect
from editkit.errors import EditkitError
from editkit.evaluation.evaluate import evaluate
from editkit.evaluation.scores import score_for
from editkit.model.checkpoints.source import Source, find
from editkit.model.editable import open_model
from editkit.redteam.inspection import inspect
from editkit.report.compare import compare_report
from editkit.report.prompts import prompts_about
from editkit.tuning.options import RefineOptions
from editkit.tuning.search.exact import Exact
from editkit.tuning.search.gumbel import Gumbel
from editkit.variants.edit_file import load_edit, save_edit
from editkit_cli.main import app

BUILDINGS = """
name = "buildings"
words = "words.txt"
examples = ["mosque", "dog"]
templates = ["{}", "a drawing of a {}"]
vocabulary_templates = ["one {}"]

[synonyms]
church = ["chapel"]

[hypernyms]
building = ["church", "mosque"]

[judge]
name = "emoji-judge"

[judge.labels]
tower = ["castle", "house"]

[sampling]
steps = 2
guidance = 2
batch = 3

[refine]
batch = 2
rate = 3e-4
templates = ["a {}"]

[refine.rates]
esd = 5e-5
"""
WORDS = ["church", "chapel", "mosque", "building", "dog", "pizza", "tower"]
SUITE = """
name = "mine"
about = "A church goes, a dog stays."
metrics = ["esr-1", "psr-1"]
classes = ["church", "dog"]
templates = ["a {}"]
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profile")
    (folder / "words.txt").write_text("\n".join(WORDS))
    (folder / "buildings.toml").write_text(BUILDINGS)
    return folder / "buildings.toml"


def editkit(*words: str | Path) -> None:
    """The command line, in this process."""
    app([str(word) for word in words], standalone_mode=False)


def assert_same_bits(edit: Edit, other: Edit) -> None:
    assert edit.maps.keys() == other.maps.keys()
    for key, mine in edit.maps.items():
        assert torch.equal(mine.U, other.maps[key].U) and torch.equal(mine.V, other.maps[key].V)


def as_toml(made: Profile) -> str:
    """A profile as a user would write it; JSON's lists, texts and numbers are TOML's."""
    tables = {"synonyms": made.synonyms, "hypernyms": made.hypernyms, "sampling": made.sampling}
    tables |= {"refine": {"templates": made.refine.templates, **made.refine.options}, "refine.rates": made.refine.rates}
    tables |= {"judge": {"name": made.judge.name}} if made.judge is not None else {}
    names = ("words", "examples", "templates", "vocabulary_templates", "vocabulary_turns", "styles", "style_templates",
             "measures_damage")  # fmt: skip
    lines = [f"{name} = {json.dumps(getattr(made, name))}" for name in names]
    lines.append(f"knows = {json.dumps(sorted(made.knows or ()))}")
    for table, rows in tables.items():
        lines += [f"[{table}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in rows.items())]
    return "\n".join(lines)


@pytest.mark.parametrize("module", [profile, profile_file])
def test_the_examples_of_the_docs_hold(module: Any) -> None:
    done = doctest.testmod(module)
    assert done.attempted > 0 and done.failed == 0


def refining(objective: str, source: Source, **given: Any) -> RefineOptions:
    return RefineOptions.of(objective, source.profile, **given)


def test_the_bundled_models_profile_says_what_it_was_taught() -> None:
    known = taught.catalogue()
    assert PROFILE.words == known.words() and PROFILE.examples == known.objects
    assert PROFILE.templates == PROFILE.refine.templates == taught.TEMPLATES
    assert Sampling.for_model(find("emoji")) == Sampling(steps=20, guidance=3.0, batch=64)
    assert Sampling.for_model(find("emoji"), steps=7).steps == 7
    options = refining("ap", find("emoji"))
    assert (options.batch, options.rate, options.sampling_steps) == (4, 2e-4, 20)
    assert refining("ca", find("emoji")).rate == 5e-5 and refining("esd", find("emoji")).rate == 2e-5
    own = [(word,) for word in known.concepts]
    assert [PROFILE.meanings[word] for word in known.concepts] == own
    assert all(PROFILE.meanings[word] == (name,) for name, some in known.synonyms.items() for word in some)
    assert all(PROFILE.meanings[name] == members for name, members in known.hypernyms.items())


def test_a_profile_file_alone_makes_the_bundled_models_edits(tmp_path: Path) -> None:
    """The bundled folder as a user's model, with a file that says what the bundled profile says: the same bits."""
    (tmp_path / "same.toml").write_text(as_toml(PROFILE))
    bundled, user = open_model("emoji"), open_model(find("emoji").path, profile=tmp_path / "same.toml")
    assert user.profile.sha256 == bundled.profile.sha256 and user.profile.name == "same"
    for method, protect in (("uce", "none"), ("uce", "prior"), ("rece", "minimax")):
        options = Options(method, protect=protect, rounds=1)
        mine, theirs = (erase(model, ["church", "weapon"], options=options) for model in (user, bundled))
        assert_same_bits(mine, theirs)
        assert mine.record["figures"].keys() == theirs.record["figures"].keys()
    assert prompts_about(user, ["church"]) == prompts_about(bundled, ["church"])
    assert refining("esd", user.source) == refining("esd", bundled.source)
    with pytest.raises(EditkitError, match=r"never learned the word 'zeppelin'; .*same.toml lists what it knows"):
        check_known(user, ["zeppelin"])
    plain = open_model(find("emoji").path)
    assert plain.profile is DEFAULT and plain.profile.sha256 != bundled.profile.sha256


def test_models_of_which_nothing_is_known_have_the_default(tiny_sd: Path) -> None:
    model = open_model(tiny_sd)
    assert model.profile is DEFAULT and model.profile.templates == TEMPLATES
    assert model.own_words() == list(common_words()) and DEFAULT.own_words(slow=True) == list(common_words())[::10]
    assert Sampling.for_model(model.source) == Sampling()
    assert refining("ap", model.source) == RefineOptions()
    check_known(model, ["zeppelin"])


def test_erase_uses_the_words_and_sentences_of_a_profile(
    tiny_sd: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same edit as with the words given, the sentences put in by hand; what is taught as the same goes along."""
    out = tmp_path / "church.safetensors"
    editkit("erase", "--concept", "church", "--model", tiny_sd, "--profile", file, "--method", "uce", "--out", out)
    model = open_model(tiny_sd, profile=file)
    assert words_to_protect(model, ["church"], ["average"]) == ["mosque", "building", "dog", "pizza", "tower"]
    assert "mosque" not in words_to_protect(model, ["building"], ["average"])
    by_hand = replace(DEFAULT, templates=("{}", "a drawing of a {}"), vocabulary_templates=("one {}",))
    kept = [word for word in WORDS if word != "chapel"]
    given: dict[str, Any] = {"options": Options("uce"), "vocabulary": kept, "synonym": ["chapel"]}
    expected = erase(open_model(tiny_sd, profile=by_hand), ["church"], **given)
    save_edit(expected, tmp_path / "expected.safetensors")
    made, again = load_edit(out), load_edit(tmp_path / "expected.safetensors")
    assert isinstance(made, Edit) and isinstance(again, Edit)
    assert_same_bits(made, again)
    assert made.record["profile"] == {"name": "buildings", "sha256": model.profile.sha256}
    other = erase(open_model(tiny_sd), ["church"], **given)
    assert not torch.equal(expected.map.U, other.map.U), "the default sentences are others"
    monkeypatch.setattr("editkit.erasure.make.LOOKED_AT", 2)
    told = open_model(tiny_sd, profile=replace(model.profile, measures_damage=True))
    few, every = (
        {
            word
            for word, _ in erase(opened, ["church"], options=Options("uce", protect="none")).record["figures"][
                "worst_words"
            ]
        }
        for opened in (model, told)
    )
    assert set() < few < every <= set(WORDS) and len(few) <= 2, "unprotected, a few words tell whether it blows up"


def test_generate_draws_as_a_profile_says_and_options_win(tiny_sd: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text("prompt\na church\n")
    for name, more in (("own", []), ("given", ["--steps", "1"])):
        words = ["--prompts", tmp_path / "prompts.csv", "--out", tmp_path / name, "--model", tiny_sd]
        editkit("generate", *words, "--profile", file, "--device", "cpu", *more)
    own, given = (json.loads(next((tmp_path / name).glob("*.json")).read_text()) for name in ("own", "given"))
    assert (own["steps"], own["guidance"], own["scheduler"]) == (2, 2.0, "ddim")
    assert (given["steps"], given["guidance"]) == (1, 2.0)
    assert Sampling.for_model(find(tiny_sd, profile=file)).batch == 3


def test_a_profiles_judge_looks_where_nobody_else_is_named(tiny_sd: Path, file: Path, tmp_path: Path) -> None:
    """In evaluations without a detector, in reports, and for δ; not for a suite that names its own."""
    (tmp_path / "mine.toml").write_text(SUITE)
    edit = erase(open_model(tiny_sd, profile=file), ["church"], options=Options("uce"))
    save_edit(edit, tmp_path / "church.safetensors")
    edits = ["base", str(tmp_path / "church.safetensors")]
    with pytest.raises(EditkitError, match="asks a detector, and suite mine has none; give --detector"):
        evaluate(edits, str(tmp_path / "mine.toml"), tmp_path / "none", model=tiny_sd, device="cpu")
    made = evaluate(edits, str(tmp_path / "mine.toml"), tmp_path / "a", model=tiny_sd, device="cpu", profile=file)
    assert made is not None
    protocol = made.record["protocol"]
    assert protocol["detector"] == "emoji-judge" and protocol["sampling"]["steps"] == 2
    assert protocol["profile"]["name"] == made.record["variants"][1]["profile"]["name"] == "buildings"
    faulty = replace(read_profile(file), judge=Judge("emoji-judge", {"size": 3}))
    with pytest.raises(EditkitError, match=r"profile buildings, judge: detector 'emoji-judge': .*'size'; its options"):
        evaluate(edits, str(tmp_path / "mine.toml"), tmp_path / "b", model=tiny_sd, device="cpu", profile=faulty)
    score = score_for(find(tiny_sd, profile=file))
    assert score.knows("Tower") and score.knows("chapel") and not score.knows("zeppelin")
    (sheet,) = {tmp_path / "report"}
    report = compare_report(tiny_sd, edits, ["a chapel", "a dog"], "0", sheet, device="cpu", profile=file)
    assert (
        len(report.detections) == 4 and report.named[1] is not None and report.named[1].words[1:] == ("chapel", "dog")
    )
    assert json.loads((sheet / "report.json").read_text())["profile"]["name"] == "buildings"


def test_results_of_different_profiles_are_not_compared_unasked(tiny_sd: Path, file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SUITE)
    save_edit(
        erase(open_model(tiny_sd), ["church"], options=Options("uce", protect="none")), tmp_path / "e.safetensors"
    )
    given: dict[str, Any] = {"model": tiny_sd, "device": "cpu", "detector": "emoji-judge", "steps": 1, "guidance": 1.0}
    edits, suite = [tmp_path / "e.safetensors"], str(tmp_path / "mine.toml")
    renamed = replace(read_profile(file), name="renamed")
    evaluate(edits, suite, tmp_path / "a", profile=file, **given)
    evaluate(edits, suite, tmp_path / "b", profile=renamed, against=tmp_path / "a", **given)
    with pytest.raises(EditkitError, match=r"made with profile.sha256 .*; evaluate both alike, or --force"):
        evaluate(edits, suite, tmp_path / "c", against=tmp_path / "a", **given)
    old = json.loads((tmp_path / "a" / "results.json").read_text())
    del old["protocol"]["profile"]
    (tmp_path / "a" / "results.json").write_text(json.dumps(old))
    evaluate(edits, suite, tmp_path / "d", against=tmp_path / "a", **given)


def test_a_profile_stands_between_the_recipe_and_what_is_given(tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("refine = { search_steps = 5, search_every = 7, steps = 9, rates = { ca = 1.0 } }")
    source = find(tiny_sd, profile=tmp_path / "x.toml")
    authors = refining("ap", source, recipe="authors")
    assert (authors.search, authors.steps) == (Gumbel(5, 1e-2, True), 9)
    assert (
        refining("ap", source, recipe="authors", search_steps=6, steps=2).record.items()
        >= {"search_steps": 6, "steps": 2}.items()
    )
    assert refining("ap", source, search="exact").search == Exact(search_every=7)
    assert refining("ap", source, search=Gumbel(tau=1)).search == Gumbel(tau=1)
    ca = refining("ca", source)
    assert (ca.rate, ca.batch, ca.steps) == (1.0, 4, 9)


def test_refine_trains_as_a_profile_says(tiny_sd: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = find(tiny_sd, profile=file)
    assert (refining("ap", source).batch, refining("ap", source).rate) == (2, 3e-4)
    assert refining("esd", source).rate == 5e-5 and refining("esd", source, rate=1e-6).rate == 1e-6
    assert source.profile.refine.templates == ("a {}",)
    (file.parent / "large.toml").write_text("refine.batch = 512")
    plans = []
    for more in (["--profile", file.parent / "large.toml"], [], ["--batch", "512"]):
        editkit("refine", "--plan", "--concept", "church", "--model", tiny_sd, "--device", "cpu", *more)
        plans.append(capsys.readouterr().err)
    assert plans[0] == plans[2] != plans[1] != ""


def test_inspect_looks_at_a_profiles_words(tiny_sd: Path, file: Path) -> None:
    assert {
        difference.word for difference in inspect("base", "base", model=str(tiny_sd), points=1, profile=file)
    } == set(WORDS)


def test_a_profile_for_the_bundled_model_changes_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "fast.toml").write_text("sampling.steps = 5\nrefine.rate = 0.001\n")
    model = open_model("emoji", profile=tmp_path / "fast.toml")
    assert Sampling.for_model(model.source) == Sampling(steps=5, guidance=3.0, batch=64)
    assert model.own_words() == list(PROFILE.words or ()) and model.profile.judge == Judge("emoji-judge")
    assert refining("esd", model.source).rate == 1e-3 and refining("esd", model.source).batch == 4


def test_a_files_keys_are_the_options_of_drawing() -> None:
    """Every key has the type of the option of its name; an option that may be None has the type beside it."""

    def kinds(cls: type, names: Mapping[str, type]) -> dict[str, Any]:
        hints = get_type_hints(cls)
        return {name: next(iter(getattr(hints[name], "__args__", (hints[name],)))) for name in names if name != "size"}

    assert kinds(Settings, SAMPLING) == {name: kind for name, kind in SAMPLING.items() if name != "size"}
    assert SAMPLING.keys() == get_type_hints(Settings).keys()


def test_every_command_that_takes_a_model_takes_a_profile() -> None:
    """But for export, verify and card, which use nothing of it, and recipes, which name theirs."""
    options = {typed: {known.name for known in command.params} for typed, command in commands().items()}
    without = {typed for typed, some in options.items() if "model" in some and "profile" not in some}
    assert without == {f"editkit {name}" for name in ("export", "verify", "card", "run")}
    assert len([name for name, some in options.items() if "profile" in some]) >= 11


def test_only_its_own_folder_knows_the_bundled_model() -> None:
    """No import of `editkit.emoji` from elsewhere, and nobody asks whether a model is the bundled one."""
    root = Path(profile.__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        if root / "emoji" in path.parents or path == root / "__init__.py":  # the package names all its functions
            continue
        text = path.read_text(encoding="utf-8")
        imported = [
            name
            for node in ast.walk(ast.parse(text))
            for name in (
                [node.module or "", *(f"{node.module}.{name.name}" for name in node.names)]
                if isinstance(node, ast.ImportFrom)
                else [name.name for name in node.names] if isinstance(node, ast.Import) else []
            )
        ]  # fmt: skip
        assert not [name for name in imported if f"{name}.".startswith("editkit.emoji.")], path
        assert "is_bundled" not in text, path


def test_opening_a_model_does_not_read_the_bundled_models_catalogue(tiny_sd: Path) -> None:
    code = (
        "import sys; from editkit.model.editable import open_model; m = open_model('emoji'); "
        f"open_model({str(tiny_sd)!r}).profile; assert 'editkit.emoji.catalogue' not in sys.modules; "
        "m.profile; assert 'editkit.emoji.catalogue' in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
