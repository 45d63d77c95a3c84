"""`editkit evaluate` on the bundled model: what it draws, counts, writes, refuses."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import editkit
from editkit.edits.method import Options
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.evaluation.evaluate import evaluate
from editkit.evaluation.results import Results, read_results
from editkit.evaluation.statistics.rates import wilson
from editkit.model.editable import open_model
from editkit.variants.edit_file import save_edit
from tests.cli import run

SUITE = """
name = "small"
about = "Two objects go, two stay."
detector = "emoji-judge"
metrics = ["esr-1", "psr-1", "psr-5", "sensitivity-keep"]
seeds = "0-2"
classes = ["church", "dog", "pizza", "axe"]
templates = ["an image of a {}"]

[splits]
buildings = ["church", "pizza"]
animals = ["dog", "axe"]
"""
STEPS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two edits of the same concepts, one that erases others, and a suite."""
    place = tmp_path_factory.mktemp("evaluate")
    model = open_model("emoji")
    for name, concepts, method in (("weak", ["church", "pizza"], "time"), ("strong", ["church", "Pizza"], "rece"),
                                   ("other", ["dog"], "uce")):  # fmt: skip
        save_edit(
            erase(model, concepts, options=Options(method, protect="none"), checked=False),
            place / f"{name}.safetensors",
        )
    (place / "small.toml").write_text(SUITE)
    return place


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    edits = ["base", folder / "weak.safetensors", folder / "strong.safetensors"]
    measured = evaluate(edits, str(folder / "small.toml"), folder / "out", steps=STEPS)
    assert measured is not None
    return measured


def small(folder: Path, out: Path, edits: Sequence[str] = ("base", "strong"), **given: object) -> Results:
    names = [name if name == "base" else str(folder / f"{name}.safetensors") for name in edits]
    options: dict[str, object] = {"steps": 2, "seeds": "0", "split": "buildings"} | given
    suite = str(options.pop("suite", folder / "small.toml"))
    measured = evaluate(names, suite, out, **options)  # type: ignore[arg-type]
    assert measured is not None
    return measured


def stored(folder: Path, variant: str) -> list[dict[str, object]]:
    with gzip.open(folder / "detections" / f"{variant}.jsonl.gz", "rt") as stream:
        return [json.loads(line) for line in stream]


def test_numbers_follow_from_the_stored_detections(results: Results) -> None:
    """ESR and PSR counted again by hand from the raw detections, with Wilson's interval for three pictures a class."""
    for variant in results.variants:
        lines = stored(results.folder, variant)
        assert len(lines) == 12
        for metric, classes, k, wanted in (
            ("esr-1", ("church", "pizza"), 1, False),
            ("psr-5", ("dog", "axe"), 5, True),
        ):
            hits = [(line["class"] in line["labels"][:k]) is wanted for line in lines if line["class"] in classes]  # type: ignore[index]
            assert results.value(metric, variant).value == pytest.approx(sum(hits) / 6)
        church = [line["labels"][0] != "church" for line in lines if line["class"] == "church"]  # type: ignore[index]
        rate = results.value("esr-1", variant, "church")
        assert (rate.low, rate.high) == pytest.approx(wilson(sum(church) / 3, 3))
    assert results.value("esr-1", "strong").value > results.value("esr-1", "base").value


def test_sensitivity_is_paired_with_the_unedited_model(results: Results) -> None:
    def score(line: dict[str, object]) -> float:
        return dict(zip(line["labels"], line["scores"], strict=True))[line["class"]]  # type: ignore[call-overload,arg-type]

    pairs = zip(stored(results.folder, "base"), stored(results.folder, "weak"), strict=True)
    kept = [score(old) - score(new) for old, new in pairs if old["class"] in ("dog", "axe")]
    assert results.value("sensitivity-keep", "weak").value == pytest.approx(sum(kept) / 6, abs=1e-5)
    assert results.value("sensitivity-keep", "base").count == 0


def test_the_record_says_how_it_was_made(results: Results, folder: Path) -> None:
    record = read_results(folder / "out").record
    assert record == results.record
    protocol = record["protocol"]
    assert protocol["split"] == "buildings" and protocol["erased"] == ["church", "pizza"]
    assert protocol["sampling"]["steps"] == STEPS and protocol["sampling"]["scheduler"] == "ddim"
    assert protocol["seeds"] == [0, 1, 2] and protocol["detector"] == "emoji-judge"
    assert {"torch", "diffusers", "editkit"} <= protocol["versions"].keys()
    assert len(protocol["suite"]["sha256"]) == len(protocol["model"]["projections_sha256"]) == 64
    assert [variant["name"] for variant in record["variants"]] == ["base", "weak", "strong"]
    assert record["variants"][0]["sha256"] is None and len(record["variants"][1]["sha256"]) == 64
    assert record["errors"] == {"base": 0, "weak": 0, "strong": 0} and record["intervals"]["clusters"] == "seed"


def test_differences_are_of_every_pair(results: Results) -> None:
    differences = {(row["metric"], row["from"], row["to"]): row for row in results.record["differences"]}
    difference = differences["esr-1", "base", "strong"]
    gain = results.value("esr-1", "strong").value - results.value("esr-1", "base").value
    assert difference["difference"]["value"] == pytest.approx(gain)
    assert difference["mcnemar"]["only_second"] - difference["mcnemar"]["only_first"] == pytest.approx(6 * gain)
    assert {pair[1:] for pair in differences} == {("base", "weak"), ("base", "strong"), ("weak", "strong")}
    assert ("sensitivity-keep", "base", "weak") not in differences


def test_one_row_a_picture(results: Results) -> None:
    rows = pq.read_table(results.folder / "pictures.parquet").to_pylist()
    assert len(rows) == 3 * 12
    for row in rows:
        assert (results.folder / row["picture"]).is_file() and row["error"] is None
        assert (row["esr-1"] is None) == (row["role"] == "keep") == (row["class"] in ("dog", "axe"))
    strong = [row["esr-1"] for row in rows if row["variant"] == "strong" and row["esr-1"] is not None]
    assert sum(strong) / len(strong) == results.value("esr-1", "strong").value


def test_a_stopped_run_goes_on(folder: Path, tmp_path: Path) -> None:
    small(folder, tmp_path)
    pictures = sorted((tmp_path / "pictures").rglob("*.png"))
    before = {path: path.stat().st_mtime_ns for path in pictures}
    (tmp_path / "results.json").unlink()
    pictures[0].unlink()
    small(folder, tmp_path)
    after = {path: path.stat().st_mtime_ns for path in pictures}
    assert [path for path in pictures if before[path] != after[path]] == [pictures[0]]
    with pytest.raises(EditkitError, match=r"results\.json exists and is not overwritten unasked"):
        small(folder, tmp_path)


def test_pictures_made_otherwise_are_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    small(folder, tmp_path)
    (tmp_path / "results.json").unlink()
    with pytest.raises(EditkitError, match=r"pictures were made with sampling .*'steps': 2.*, now .*'steps': 3"):
        small(folder, tmp_path, steps=3)
    before = {path: path.read_bytes() for path in (tmp_path / "pictures").rglob("*.png")}
    again = small(folder, tmp_path, steps=3, force=True)
    assert again.record["protocol"]["sampling"]["steps"] == 3
    assert all(path.read_bytes() != content for path, content in before.items())


def test_what_was_made_otherwise_does_not_compare(results: Results, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"made with sampling.steps 5, this one with 2 .*seeds.*--force"):
        small(folder, tmp_path, against=results.folder)
    assert not (tmp_path / "pictures").exists()  # refused before anything is drawn
    forced = small(folder, tmp_path, ["strong"], against=results.folder / "results.json", force=True)
    pairs = {(row["from"], row["to"]) for row in forced.record["against"]}
    assert ("other:weak", "strong") in pairs and ("other:base", "strong") in pairs
    assert {row["difference"]["count"] for row in forced.record["against"] if row["metric"] == "esr-1"} == {2}


def test_against_an_equal_result_is_the_same_difference(results: Results, folder: Path, tmp_path: Path) -> None:
    again = small(folder, tmp_path, ["strong"], steps=STEPS, seeds="0-2", against=results.folder)
    inside = {(row["metric"], row["from"], row["to"]): row for row in results.record["differences"]}
    across = {(row["metric"], row["from"], row["to"]): row for row in again.record["against"]}
    for metric in ("esr-1", "psr-1", "sensitivity-keep"):
        difference, expected = across[metric, "other:weak", "strong"], inside[metric, "weak", "strong"]
        assert (
            difference["difference"] == pytest.approx(expected["difference"])
            and difference["mcnemar"] == expected["mcnemar"]
        )


def test_the_unedited_model_is_drawn_where_a_metric_needs_it(folder: Path, tmp_path: Path) -> None:
    assert small(folder, tmp_path / "a", ["strong"]).variants == ["base", "strong"]
    assert small(folder, tmp_path / "b", ["strong"], metrics=["esr-1"]).variants == ["strong"]


def test_two_edits_of_one_name_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "strong.safetensors").write_bytes((folder / "weak.safetensors").read_bytes())
    edits = [folder / "strong.safetensors", tmp_path / "more" / "strong.safetensors"]
    measured = evaluate(edits, str(folder / "small.toml"), tmp_path / "out", steps=2, seeds="0", metrics=["esr-1"])
    assert measured is not None and measured.variants == ["strong", "strong-2"]


def test_edits_choose_the_split_and_mismatches_are_said(folder: Path, tmp_path: Path) -> None:
    chosen = small(folder, tmp_path / "a", ["strong"], split=None, metrics=["esr-1"])
    assert chosen.record["protocol"]["split"] == "buildings" and not chosen.record["warnings"]
    with pytest.warns(UserWarning, match=r"what is erased \(dog\) is no split of suite small"):
        partly = small(folder, tmp_path / "b", ["other"], split=None, metrics=["esr-1"])
    assert partly.record["protocol"]["erased"] == ["dog"] and partly.record["protocol"]["split"] is None
    with pytest.warns(UserWarning) as said:
        small(folder, tmp_path / "c", ["other"], metrics=["esr-1"])
    texts = [str(warning.message) for warning in said]
    assert "other does not erase church, pizza, which this measures as erased" in texts
    assert "other also erases dog, which this does not measure as erased" in texts


@pytest.mark.parametrize(
    ("edits", "given", "message"),
    [
        (
            ["base"],
            {"split": None},
            "no edit is given, so nothing says which classes are erased; --split chooses: build",
        ),
        (["strong", "other"], {"split": None}, "the edits erase different classes .strong: church, pizza; other: dog"),
        (["strong"], {"split": "9"}, "--split 9: expected one of buildings, animals"),
        (["strong"], {"suite": "emoji-objcts"}, "suite 'emoji-objcts': did you mean emoji-objects"),
        (["other"], {"suite": "emoji-styles", "split": None}, "other erases dog, none of its classes .noto, twemoji"),
        (["strong"], {"detector": "judge"}, "detector 'judge': did you mean emoji-judge"),
        (["strong"], {"metrics": ["esr"]}, "metric 'esr': expected esr-K"),
        (["strong"], {"seeds": "a"}, "--seeds: expected numbers and ranges"),
        (["nothing"], {}, "nothing.safetensors: no such edit file"),
        (["strong"], {"prompts": "none.csv"}, "none.csv: expected a text file, but it cannot be read"),
        (
            ["strong"],
            {"weights": {"clipp": "x"}},
            "--weights clipp=x: expected one of clip, detector, inception, lpips",
        ),
        (["strong"], {"weights": {"clip": "x"}}, "--weights clip=x: no such file or folder"),
        (["strong"], {"against": "none.json"}, "none.json: expected the results.json of an evaluation"),
        (["strong"], {"suite": "imagenette"}, "suite imagenette: give your prompt file with --prompts FILE"),
    ],
)
def test_mistakes_are_named_before_anything_is_drawn(
    edits: list[str], given: dict[str, object], message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(EditkitError, match=message):
        small(folder, tmp_path / "out", edits, **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_pictures_that_cannot_be_judged_are_failures_and_shown(folder: Path, tmp_path: Path) -> None:
    small(folder, tmp_path / "out", ["strong"], metrics=["esr-1", "psr-1"])
    names = {line["class"]: str(line["picture"]) for line in stored(tmp_path / "out", "strong")}
    (tmp_path / "out" / "pictures" / "strong" / names["church"]).write_bytes(b"no picture")
    words = ["evaluate", folder / "strong.safetensors", "--suite", folder / "small.toml", "--split", "buildings"]
    words += ["--steps", "2", "--seeds", "0", "--metric", "esr-1", "--metric", "psr-1", "--out", "out", "--force"]
    said = run(*words, "--per-class", cwd=tmp_path)
    assert "strong: 1 pictures could not be judged; they count as failures" in said
    read = read_results(tmp_path / "out")
    assert read.record["errors"] == {"strong": 1}
    assert read.value("esr-1", "strong", "church").value == 0.0
    assert "errors" in said and "esr-1 ↑ %" in said and "results: out/results.json" in said


def test_a_class_that_the_detector_has_no_word_for_is_not_erased(folder: Path, tmp_path: Path) -> None:
    suite = tmp_path / "s.toml"
    suite.write_text(SUITE.replace('"pizza"', '"tench"'))
    with pytest.raises(EditkitError, match=r"emoji-judge: never says 'tench', so the class would count as erased"):
        small(folder, tmp_path / "out", ["base"], suite=suite)
    with pytest.raises(EditkitError, match=r"metric ner-eight-0.5: expected detections of nudenet"):
        small(folder, tmp_path / "out", ["base"], metrics=["ner-eight-0.5"])
    assert not (tmp_path / "out").exists()  # found out before drawing


def test_python_is_as_short_as_the_command_line(folder: Path, tmp_path: Path) -> None:
    measured = editkit.evaluate(["base"], str(folder / "small.toml"), tmp_path, split="animals", seeds="0", steps=2)
    assert measured is not None and measured.value("psr-5", "base", "church").count == 1


def test_the_command_line_lists_what_it_knows(tmp_path: Path) -> None:
    said = run("suites", cwd=tmp_path)
    assert "emoji-objects" in said and "splits: 1, 2, 3, 4" in said and "needs: your prompt file" in said
    assert json.loads(run("suites", "--json", cwd=tmp_path))[0]["name"] == "artists"
    assert "Start it again to go on where it stopped" in run("evaluate", "--help", cwd=tmp_path)
