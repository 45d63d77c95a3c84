"""Presets: each says exactly the options that it states, and a preset does what its command line does."""

from __future__ import annotations

import inspect
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import editkit
from editkit.edits.method import Options
from editkit.erasure.presets.preset import Preset
from editkit.erasure.presets.preset_file import HARDEN, load_preset, parse_preset, preset_names
from editkit.errors import EditkitError
from editkit.options import options_of
from editkit.plugins import load
from editkit.redteam.harden import harden
from tests.cli import run

CASES = [(name, method) for name in preset_names() for method in load_preset(name).methods]
MINE = """
concept = ["church", "boat"]
synonym = ["chapel"]
method = "uce"

[methods.uce]
guide = ["house", "car"]
preserve = ["a mosque"]
protect = "none"
lamb = 0.3

[moderate]
strength = 0.25

[harden]
rounds = 2
goal = 0.2
"""


def mine(text: str = MINE) -> Preset:
    return parse_preset(text, Path("mine.toml"))


@pytest.fixture
def words(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("mosque\ncastle\ndog\nrose\n")
    return tmp_path / "words.txt"


@pytest.mark.parametrize(("name", "method"), CASES)
def test_a_preset_is_the_command_that_it_prints_to_the_bit(
    name: str, method: str, tiny_sd: Path, words: Path, tmp_path: Path
) -> None:
    preset = load_preset(name)
    options, vocabulary = preset.options(method), words.read_text().split()
    made = editkit.erase(tiny_sd, options=options, vocabulary=vocabulary, checked=False, preset=name)
    editkit.save_edit(made, tmp_path / "by-name.safetensors")
    rest = ["--model", str(tiny_sd), "--vocabulary", str(words), "--unchecked", "--out", "typed.safetensors"]
    run(*preset.words(method)[1:], *rest, cwd=tmp_path)
    one, other = (load_file(tmp_path / file) for file in ("by-name.safetensors", "typed.safetensors"))
    assert one.keys() == other.keys() and all(one[key].equal(other[key]) and one[key].any() for key in one)
    record = editkit.info(tmp_path / "typed.safetensors")
    assert all(made.record[key] == record[key] for key in ("options", "concepts", "guides", "preserve"))
    assert made.record["preset"] == {"name": name, "sha256": preset.sha256} and "preset" not in record


@pytest.mark.parametrize(("name", "method"), CASES)
def test_a_preset_states_what_its_file_says_and_nothing_else(name: str, method: str) -> None:
    preset = load_preset(name)
    said, options, usual = preset.methods[method].options, preset.options(method), Options(method)
    usual = Options(method, protect=said.get("protect", usual.protect))
    assert {known.name for known in options_of(load("methods", method))} >= {*said}
    assert asdict(options) == {**asdict(usual), **said}
    assert preset.of(options) is preset.methods[method] and preset.told(options) is None


@pytest.mark.parametrize("name", preset_names())
def test_a_shipped_preset_names_its_source_and_a_method_that_it_speaks_of(name: str) -> None:
    preset = load_preset(name)
    assert preset.source and preset.paper and preset.about and preset.concept
    assert preset.method in preset.methods and preset.name == name
    text = Path(str(inspect.getfile(Preset))).with_name(f"{name}.toml").read_text()
    unsaid = "No source names synonyms, a strength to moderate with, or settings to harden with"
    assert (unsaid in text) == (not preset.synonym and not preset.moderate and not preset.harden)


def test_what_is_given_wins_over_the_preset() -> None:
    nudity = load_preset("nudity")
    assert nudity.options(epochs=1) == Options("rece", **{**nudity.methods["rece"].options, "epochs": 1})
    asked = nudity.filled((), ["a flower"], ["a dog"], None, "erase", ["bare"])
    assert asked.concepts == ("nudity",) and asked.guides == ["a flower"] and asked.preserve == ["a dog"]
    assert asked.synonyms == "erase" and asked.synonym == ["bare"] and asked.options == nudity.options()
    of_two = mine().filled(["dog"], (), (), None, None, ())
    assert of_two.concepts == ["dog"] and not of_two.guides and not of_two.synonym and of_two.preserve == ("a mosque",)
    assert load_preset("artists").filled(["Van Gogh"], (), (), None, None, ()).guides == ("art",)


def test_numbers_for_one_protection_are_not_taken_for_another(tmp_path: Path) -> None:
    nudity = load_preset("nudity")
    protected = nudity.options(protect="minimax")
    assert protected == Options("rece") and not nudity.filled((), (), (), protected, None, ()).guides
    told = nudity.told(protected)
    assert told is not None and "is for --protect none; with --protect minimax the defaults are taken" in told
    assert "says nothing of --method cure" in str(nudity.told(nudity.options("cure")))
    said = run("erase", "--preset", "nudity", "--method", "cure", cwd=tmp_path, code=1)
    assert "says nothing of --method cure; its defaults are taken" in said and "never learned the word" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("concepts = ['x']", "preset mine.toml, concepts: no such key; did you mean concept"),
        ("concept = 'x.txt'", "x.txt"),
        ("concept = ['x', 'X']", "concept: concept 'X' is named twice"),
        ("concept = [1]", r"concept: expected a list of texts, got \[1\]"),
        ("method = 'rec'", "method: method 'rec': did you mean rece"),
        ("[methods.ucee]", "methods.ucee: method 'ucee': did you mean uce"),
        ("[methods.uce]\nlambda = 1", "methods.uce.lambda: no such key; did you mean lamb"),
        ("[methods.uce]\nepochs = 1", "methods.uce.epochs: no such key"),
        ("[methods.uce]\nlamb = -1", "methods.uce: --lamb: expected a finite number of at least 0, got -1"),
        ("[methods.uce]\nprotect = 'non'", "methods.uce: --protect: must be one of minimax"),
        (
            "concept = ['a', 'b', 'c']\n[methods.uce]\nguide = ['x', 'y']",
            "guide: expected one guide, or one for each of 3",
        ),
        ("concept = ['a']\n[methods.uce]\npreserve = ['a']", "preserve: 'a' is to be both erased and preserved"),
        ("synonyms = 'drop'", "synonyms: --synonyms: must be one of erase, leave"),
        ("[moderate]\nstrenght = 1", "moderate.strenght: no such key; did you mean strength"),
        ("[moderate]\nstrength = 2", "moderate.strength: expected a number from 0 to 1, got 2.0"),
        ("[harden]\nround = 1", "harden.round: no such key; did you mean rounds"),
        ("[harden]\nrounds = 1.5", "harden.rounds: expected a whole number, got 1.5"),
        ("about = 3", "about: expected a text, got 3"),
        ("concept = [", "preset mine.toml: expected TOML"),
    ],
)
def test_what_a_preset_cannot_say_is_named(text: str, message: str) -> None:
    with pytest.raises(EditkitError, match=message) as caught:
        mine(text)
    assert "\n" not in str(caught.value)


def test_the_hash_is_of_what_a_preset_says() -> None:
    known = mine().sha256
    assert mine(f'about = "else"\n# a remark\n{MINE}').sha256 == known != mine(MINE.replace("0.3", "0.4")).sha256


def test_concepts_of_a_preset_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Ada Lovelace\nGrace Hopper\n")
    (tmp_path / "mine.toml").write_text('concept = "names.txt"')
    read = load_preset(tmp_path / "mine.toml")
    assert read.concept == ("Ada Lovelace", "Grace Hopper") and read.method == "rece"
    assert read.sha256 == mine('concept = ["Ada Lovelace", "Grace Hopper"]').sha256


def test_a_preset_of_ones_own_works_the_same_and_python_can_do_it(tiny_sd: Path, words: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    rest = ("--model", tiny_sd, "--vocabulary", words, "--unchecked", "--out", "e.safetensors")
    run("erase", "--preset", "mine.toml", "--lamb", "0.2", *rest, cwd=tmp_path)
    preset = load_preset(tmp_path / "mine.toml")
    options = preset.options(lamb=0.2)
    made = editkit.erase(tiny_sd, options=options, preset=preset, vocabulary=words.read_text().split(), checked=False)
    read: Any = editkit.load_edit(tmp_path / "e.safetensors")
    assert torch.allclose(read.map.dense(), made.map.dense(), atol=1e-6)
    assert read.record["options"]["lamb"] == 0.2 and [*read.record["synonyms"].values()] == [["chapel"]]
    assert read.record["guides"] == ["house", "car"] and read.record["preserve"] == ["a mosque"]
    assert read.record["preset"] == preset.record == {"name": "mine", "sha256": preset.sha256}


def test_what_a_preset_says_of_hardening_are_parameters_of_it() -> None:
    parameters = inspect.signature(harden).parameters
    assert {*HARDEN} <= {*parameters}
    for name, kind in HARDEN.items():
        usual = parameters[name].default
        assert isinstance(usual, kind) or (kind is list and usual == ())


def test_harden_takes_what_the_preset_says_and_nobody_typed(
    tiny_sd: Path, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    plain = Options("uce", protect="none")
    church = editkit.erase(tiny_sd, ["church"], options=plain, vocabulary=words.read_text().split(), checked=False)
    editkit.save_edit(church, tmp_path / "church.safetensors")
    (tmp_path / "mine.toml").write_text(MINE)

    def noted(edit: Any, model: Any, **given: Any) -> Any:
        seen.update(given)
        return church

    monkeypatch.setattr("editkit.redteam.harden.harden", noted)
    line = ("harden", "church.safetensors", "--model", tiny_sd, "--preset")
    run(*line, "mine.toml", "--goal", "0.3", "--out", "h.safetensors", cwd=tmp_path)
    assert (seen["rounds"], seen["goal"], seen["per_round"]) == (2, 0.3, 12)
    said = run(
        "harden", "church.safetensors", "--preset", "nudity", "--out", "i.safetensors", cwd=tmp_path, errors=True
    )
    assert "preset nudity: says nothing of harden; its defaults are taken" in said and seen["rounds"] == 5


def test_presets_are_listed_and_printed_with_their_commands(tmp_path: Path) -> None:
    printed = run("presets", "nudity", cwd=tmp_path)
    assert all(shlex.join(load_preset("nudity").words(method)) in printed for method in ("uce", "rece", "speed"))
    assert "reg = 0.1" in printed
    listed = run("presets", cwd=tmp_path)
    assert all(name in listed for name in preset_names())
    assert "did you mean nudity" in run("presets", "nudty", cwd=tmp_path, code=1)
    assert "did you mean nudity" in run("erase", "--preset", "nudty", cwd=tmp_path, code=1)
    assert [*tmp_path.iterdir()] == []
