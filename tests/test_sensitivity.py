"""Closed-form damage against the weights themselves, rank correlation against scipy, sensitivity and concept graph."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.sampler import Job, draw, jobs
from editkit.drawing.sampling import Sampling
from editkit.edits.compose import scale
from editkit.edits.edit import Edit
from editkit.edits.method import Options
from editkit.edits.tuned import Tuned
from editkit.emoji.judge import EmojiJudge
from editkit.emoji.profile import PROFILE
from editkit.erasure.erase import erase
from editkit.erasure.rows import vocabulary_rows
from editkit.errors import EditkitError
from editkit.evaluation.networks.clip import load_clip
from editkit.evaluation.scores import JudgeProbability, score_for
from editkit.evaluation.sensitivity import Delta, word_damage
from editkit.evaluation.statistics.rank_correlation import spearman
from editkit.model.checkpoints.source import find
from editkit.model.editable import EditableModel, open_model
from editkit.report.concept_graph import concept_graph, graph
from editkit.report.sensitivity import sensitivity
from editkit.variants.edit_file import save_edit
from tests.cli import run
from tests.test_clip import save_clip

WORDS = ["dog", "mosque", "castle", "pizza", "trumpet"]


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


@pytest.fixture(scope="module")
def uce(model: EditableModel) -> Edit:
    return erase(model, ["church"], options=Options("uce", protect="none"))


@pytest.fixture(scope="module")
def uce_file(uce: Edit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edits") / "church-uce.safetensors"
    save_edit(uce, path)
    return path


def damage_by_weights(model: EditableModel, edit: Edit, word: str) -> float:
    """`Σ ‖(W' − W) c‖² / Σ ‖W c‖²`, layer by layer, as the definition is written."""
    (stream,) = model.streams
    (encoded,) = vocabulary_rows(stream.encoders, [word], model.profile.sentences_for).rows
    rows = encoded.double()
    changed = edit.weights({name: W.double() for name, W in stream.inputs.items()})
    change = sum(float((rows @ (changed[name] - W.double()).T).square().sum()) for name, W in stream.inputs.items())
    return change / sum(float((rows @ W.double().T).square().sum()) for W in stream.inputs.values())


@pytest.mark.parametrize("technique", ["replace", "tensor"])
def test_damage_is_that_of_the_edited_weights(model: EditableModel, technique: str) -> None:
    """One map for all layers, and one each."""
    edit = erase(model, ["church"], options=Options("uce", protect="none", technique=technique))
    assert edit.is_global == (technique == "replace")
    (damage,) = word_damage(model, [edit], WORDS)
    assert damage.values == pytest.approx([damage_by_weights(model, edit, word) for word in WORDS], rel=1e-5)
    assert damage.ranked()[0][1] == max(damage.values)


def test_damage_of_a_tuned_model_is_that_of_its_tensors(model: EditableModel, uce: Edit) -> None:
    """The same change, once as a map and once as tensors; what does not read the text does not count."""
    inputs = model.streams[0].inputs
    tensors = {**uce.weights(inputs), "unet.conv_in.weight": torch.ones(3, 3)}
    tuned, none = Tuned(tensors, {}, {}), Tuned({"unet.conv_in.weight": torch.ones(3, 3)}, {}, {})
    by_map, by_tensors, nothing = word_damage(model, [uce, tuned, none], WORDS)
    assert by_tensors.values == pytest.approx(by_map.values, rel=1e-4)
    assert nothing.values == (0,) * len(WORDS)


def test_no_edit_does_no_damage(model: EditableModel, uce: Edit) -> None:
    none, whole, half = word_damage(model, [scale(uce, 0), uce, scale(uce, 0.5)], WORDS)
    assert none.values == pytest.approx([0] * len(WORDS), abs=1e-12)
    assert half.values == pytest.approx([value / 4 for value in whole.values]), "it is a square"
    with pytest.raises(EditkitError, match="no words to measure the damage of"):
        word_damage(model, [uce], [])


@pytest.mark.parametrize("seed", range(5))
def test_spearman_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 9, size=40).astype(float)  # with ties
    second = first + rng.normal(size=40) * 4
    correlation = spearman(first.tolist(), second.tolist())
    assert correlation.rho == pytest.approx(stats.spearmanr(first, second)[0])
    assert correlation.low < correlation.rho < correlation.high and correlation.count == 40
    again = spearman((first**3).tolist(), np.exp(second / 9).tolist())
    assert (again.rho, again.low, again.high) == pytest.approx((correlation.rho, correlation.low, correlation.high))


def test_spearman_interval_covers() -> None:
    """Of 200 samples of a normal pair with Pearson's ρ = 0.6, whose Spearman's ρ is 6/π asin 0.3, nearly all."""
    rng, true = np.random.default_rng(0), 6 / np.pi * np.arcsin(0.3)
    covered = 0
    for _ in range(200):
        x, e = rng.normal(size=(2, 50))
        correlation = spearman(x.tolist(), (0.6 * x + 0.8 * e).tolist())
        covered += correlation.low <= true <= correlation.high
    assert 0.88 <= covered / 200 <= 0.99


def test_spearman_needs_something_to_order() -> None:
    with pytest.raises(EditkitError, match="needs at least 4 words, got 2"):
        spearman([1, 2], [3, 4])
    with pytest.raises(EditkitError, match="the same for every word"):
        spearman([1, 1, 1, 1], [1, 2, 3, 4])


def test_what_words_mean() -> None:
    assert PROFILE.named_in("A photo of a hot dog, in red") == "hot dog"
    assert PROFILE.named_in("a dog on a blue background") == "dog"
    assert PROFILE.named_in("a dogma") is None and PROFILE.named_in("") is None
    assert set(PROFILE.meanings["weapon"]) > {"dagger", "bomb"} and PROFILE.meanings["church"] == ("church",)
    judge = JudgeProbability(EmojiJudge(), PROFILE)
    grey = [Image.new("RGB", (64, 64), "gray")] * 2
    of_group, of_all = judge.score(grey, ["weapon", "dagger"])
    assert 0 <= of_all < of_group <= 1 and not judge.knows("nudity")


def test_other_models_are_scored_by_clip(tiny_sd: Path) -> None:
    with pytest.raises(EditkitError, match="pictures of it are scored by CLIP; give --clip DIR"):
        score_for(open_model(tiny_sd).source)


def test_pictures_of_other_models_by_clip(tiny_sd: Path, tmp_path: Path) -> None:
    """δ is the mean difference of CLIP's cosines, seed by seed."""
    model, words = open_model(tiny_sd), ["dog", "tree", "house", "car"]
    edit = erase(model, ["van gogh"], options=Options("uce", protect="none"))
    folder = save_clip(tmp_path / "clip", 3)
    measured = sensitivity(model, edit, words, True, [0, 1], clip=folder, steps=2, guidance=3.0)
    assert [delta.word for delta in measured.deltas] == words and str(measured.score).startswith("similarity by clip-")
    denoiser, sampling = open_denoiser(find(tiny_sd)), Sampling(steps=2, guidance=3.0)
    drawn = dict(draw(denoiser, jobs(["a tree"], [0, 1], 2), [None, edit], sampling))
    cosines = load_clip(folder).cosines(list(drawn.values()), [("a tree",)] * 4)[:, 0]
    seen = dict(zip(drawn, cosines.tolist(), strict=True))
    expected = [seen[Job("a tree", seed, 0)] - seen[Job("a tree", seed, 1)] for seed in (0, 1)]
    assert measured.deltas[1].per_seed == pytest.approx(expected, abs=1e-3)


def test_delta_has_an_interval() -> None:
    estimate = Delta("dog", (0.0, 0.2, 0.4, 0.6)).estimate
    assert estimate.value == pytest.approx(0.3) and 0 <= estimate.low < 0.3 < estimate.high <= 0.6
    assert Delta("dog", (0.5,)).estimate.clusters == 1, "a single seed has none"


def test_sensitivity_of_words_alone(model: EditableModel, uce: Edit) -> None:
    measured = sensitivity(model, uce, ["church", "churches", "dog", "castle"])
    assert measured.damage.words == ("dog", "castle") and measured.erased.words == ("church",)
    assert measured.as_dict()["spearman"] is None
    everything = sensitivity(model, uce)
    assert len(everything.damage.words) > 200 and "church" not in everything.damage.words
    with pytest.raises(EditkitError, match="no word is left in the vocabulary"):
        sensitivity(model, uce, ["church"])


@pytest.mark.slow
def test_measured_sensitivity(uce_file: Path, tmp_path: Path) -> None:
    """An unprotected edit costs other words what the judge sees of them; the plot has every word."""
    measured = sensitivity("emoji", uce_file, WORDS, True, "0-1", tmp_path / "s.svg", steps=8)
    assert measured.correlation is not None and measured.correlation.count == len(WORDS)
    assert np.mean([delta.estimate.value for delta in measured.deltas]) > 0.2
    saved = json.loads((tmp_path / "s.json").read_text())
    assert {row["word"] for row in saved["words"]} == set(WORDS) and saved["spearman"]["count"] == len(WORDS)
    svg = ElementTree.parse(tmp_path / "s.svg").getroot()
    assert len(svg.findall(".//{*}circle")) == len(WORDS) and "Spearman's ρ" in svg.attrib["aria-label"]
    with pytest.raises(EditkitError, match="exists and is not overwritten unasked"):
        sensitivity("emoji", uce_file, WORDS, out=tmp_path / "s.svg")


def test_unknown_words_are_left_out_of_what_is_measured(model: EditableModel, uce: Edit) -> None:
    with pytest.raises(EditkitError, match="knows none of the words; give a --vocabulary"):
        sensitivity(model, uce, ["background"], pictures=True)


@pytest.mark.slow
def test_concept_graph(model: EditableModel, tmp_path: Path) -> None:
    concepts = ["church", "house", "dog"]
    made = graph("emoji", concepts, tmp_path / "g", pictures=True, seeds="0-1", png=True, steps=6)
    edits = [erase(model, [concept], options=Options("uce", protect="prior")) for concept in concepts]
    for i, edit in enumerate(edits):
        expected = [damage_by_weights(model, edit, concept) for concept in concepts]
        assert made.damage[i] == pytest.approx(expected, rel=1e-5), "the encoder's float32 rows"
        assert max(expected) == expected[i], "the erased concept suffers most"
    assert made.damage[0][1] > made.damage[0][2], "a house is nearer to a church than a dog is"
    assert made.deltas is not None and np.mean([made.deltas[i][i] for i in range(3)]) > 0.2
    assert made.correlation is not None and made.correlation.count == 6
    names = ["graph.json", "graph.png", "graph.svg", "matrix.png", "matrix.svg"]
    assert sorted(path.name for path in (tmp_path / "g").iterdir()) == names
    saved: dict[str, Any] = json.loads((tmp_path / "g" / "graph.json").read_text())
    assert saved["damage"][0][1] == made.damage[0][1] and saved["edges"][0]["erased"] == "church"
    matrix = ElementTree.parse(tmp_path / "g" / "matrix.svg").getroot()
    assert len(matrix.findall(".//{*}rect[@class='cell']")) == 9
    with Image.open(tmp_path / "g" / "graph.png") as drawn:
        assert len(drawn.convert("RGB").getcolors(1 << 24) or []) > 20, "it is not empty"


def test_a_graph_needs_two_concepts(model: EditableModel) -> None:
    with pytest.raises(EditkitError, match="at least two different concepts, got 1"):
        concept_graph(model, ["dog", "dog "])


def test_command_line(uce_file: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("dog\nmosque\n")
    said = run("sensitivity", "--edit", uce_file, "--vocabulary", "words.txt", "--out", "s.png", cwd=tmp_path)
    assert "2 words: mean damage" in said and " ms, after encoding them" in said and "church (erased)" in said
    with Image.open(tmp_path / "s.png") as drawn:
        assert drawn.size[0] > 800
    rows = json.loads(run("sensitivity", uce_file, "--vocabulary", "words.txt", "--json", cwd=tmp_path))
    assert [row["word"] for row in rows["erased"]] == ["church"]
    assert "give one edit file" in run("sensitivity", cwd=tmp_path, code=2)
    assert "expected a plot file (.svg or .png)" in run("sensitivity", uce_file, "--out", "s.pdf", cwd=tmp_path, code=1)
    assert "at least two different concepts, got 0" in run("graph", "--out", "g", cwd=tmp_path, code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.json", "s.png", "words.txt"]
