"""`editkit evaluate` on the bundled model: what it draws, counts, writes, refuses."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import editkit
from editkit.edit.options import defaults
from editkit.editing import edit_prompt, erase
from editkit.errors import EditkitError
from editkit.model.edit_file import save_edit
from editkit.model.editable import open_model
from editkit.numbers.detectors import registry
from editkit.numbers.detectors.detection import Detection
from editkit.numbers.evaluate import evaluate
from editkit.numbers.lpips import alexnet
from editkit.numbers.rates import wilson
from editkit.numbers.results import Results, read_results
from editkit.numbers.time_metrics import KINDS
from tests.cli import run
from tests.test_clip import save_clip

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
            erase(model, concepts, options=defaults(method, "none"), checked=False), place / f"{name}.safetensors"
        )
    (place / "small.toml").write_text(SUITE)
    return place


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    edits = ["base", folder / "weak.safetensors", folder / "strong.safetensors"]
    found = evaluate(edits, str(folder / "small.toml"), folder / "out", steps=STEPS)
    assert found is not None
    return found


def small(folder: Path, out: Path, edits: Sequence[str] = ("base", "strong"), **given: object) -> Results:
    names = [one if one == "base" else str(folder / f"{one}.safetensors") for one in edits]
    options: dict[str, object] = {"steps": 2, "seeds": "0", "split": "buildings"} | given
    suite = str(options.pop("suite", folder / "small.toml"))
    found = evaluate(names, suite, out, **options)  # type: ignore[arg-type]
    assert found is not None
    return found


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
            hits = [(one["class"] in one["labels"][:k]) is wanted for one in lines if one["class"] in classes]  # type: ignore[index]
            assert results.value(metric, variant).value == pytest.approx(sum(hits) / 6)
        church = [one["labels"][0] != "church" for one in lines if one["class"] == "church"]  # type: ignore[index]
        found = results.value("esr-1", variant, "church")
        assert (found.low, found.high) == pytest.approx(wilson(sum(church) / 3, 3))
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
    assert [one["name"] for one in record["variants"]] == ["base", "weak", "strong"]
    assert record["variants"][0]["sha256"] is None and len(record["variants"][1]["sha256"]) == 64
    assert record["errors"] == {"base": 0, "weak": 0, "strong": 0} and record["intervals"]["clusters"] == "seed"


def test_differences_are_of_every_pair(results: Results) -> None:
    differences = {(one["metric"], one["from"], one["to"]): one for one in results.record["differences"]}
    one = differences["esr-1", "base", "strong"]
    gain = results.value("esr-1", "strong").value - results.value("esr-1", "base").value
    assert one["difference"]["value"] == pytest.approx(gain)
    assert one["mcnemar"]["only_second"] - one["mcnemar"]["only_first"] == pytest.approx(6 * gain)
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
    found = small(folder, tmp_path, steps=3, force=True)
    assert found.record["protocol"]["sampling"]["steps"] == 3
    assert all(path.read_bytes() != content for path, content in before.items())


def test_what_was_made_otherwise_does_not_compare(results: Results, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"made with sampling.steps 5, this one with 2 .*seeds.*--force"):
        small(folder, tmp_path, against=results.folder)
    assert not (tmp_path / "pictures").exists()  # refused before anything is drawn
    forced = small(folder, tmp_path, ["strong"], against=results.folder / "results.json", force=True)
    pairs = {(one["from"], one["to"]) for one in forced.record["against"]}
    assert ("other:weak", "strong") in pairs and ("other:base", "strong") in pairs
    assert {one["difference"]["count"] for one in forced.record["against"] if one["metric"] == "esr-1"} == {2}


def test_against_an_equal_result_is_the_same_difference(results: Results, folder: Path, tmp_path: Path) -> None:
    again = small(folder, tmp_path, ["strong"], steps=STEPS, seeds="0-2", against=results.folder)
    inside = {(one["metric"], one["from"], one["to"]): one for one in results.record["differences"]}
    across = {(one["metric"], one["from"], one["to"]): one for one in again.record["against"]}
    for metric in ("esr-1", "psr-1", "sensitivity-keep"):
        found, expected = across[metric, "other:weak", "strong"], inside[metric, "weak", "strong"]
        assert found["difference"] == pytest.approx(expected["difference"]) and found["mcnemar"] == expected["mcnemar"]


def test_the_unedited_model_is_drawn_where_a_metric_needs_it(folder: Path, tmp_path: Path) -> None:
    assert small(folder, tmp_path / "a", ["strong"]).variants == ["base", "strong"]
    assert small(folder, tmp_path / "b", ["strong"], metrics=["esr-1"]).variants == ["strong"]


def test_two_edits_of_one_name_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "strong.safetensors").write_bytes((folder / "weak.safetensors").read_bytes())
    edits = [folder / "strong.safetensors", tmp_path / "more" / "strong.safetensors"]
    found = evaluate(edits, str(folder / "small.toml"), tmp_path / "out", steps=2, seeds="0", metrics=["esr-1"])
    assert found is not None and found.variants == ["strong", "strong-2"]


def test_edits_choose_the_split_and_mismatches_are_said(folder: Path, tmp_path: Path) -> None:
    chosen = small(folder, tmp_path / "a", ["strong"], split=None, metrics=["esr-1"])
    assert chosen.record["protocol"]["split"] == "buildings" and not chosen.record["warnings"]
    with pytest.warns(UserWarning, match=r"what is erased \(dog\) is no split of suite small"):
        partly = small(folder, tmp_path / "b", ["other"], split=None, metrics=["esr-1"])
    assert partly.record["protocol"]["erased"] == ["dog"] and partly.record["protocol"]["split"] is None
    with pytest.warns(UserWarning) as said:
        small(folder, tmp_path / "c", ["other"], metrics=["esr-1"])
    texts = [str(one.message) for one in said]
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
        (["strong"], {"suite": "emoji-objcts"}, "suite 'emoji-objcts': expected one of artists, coco, emoji-objects"),
        (["other"], {"suite": "emoji-styles", "split": None}, "other erases dog, none of its classes .noto, twemoji"),
        (["strong"], {"detector": "judge"}, "detector 'judge': expected one of .*emoji-judge"),
        (["strong"], {"metrics": ["esr"]}, "metric 'esr': expected one of esr-K"),
        (["strong"], {"seeds": "a"}, "--seeds: expected numbers and ranges"),
        (["nothing"], {}, "nothing.safetensors: no such edit file"),
        (["strong"], {"prompts": "none.csv"}, "none.csv: expected a CSV file, but it cannot be read"),
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
    names = {one["class"]: str(one["picture"]) for one in stored(tmp_path / "out", "strong")}
    (tmp_path / "out" / "pictures" / "strong" / names["church"]).write_bytes(b"no picture")
    words = ["evaluate", folder / "strong.safetensors", "--suite", folder / "small.toml", "--split", "buildings"]
    words += ["--steps", "2", "--seeds", "0", "--metric", "esr-1", "--metric", "psr-1", "--out", "out", "--force"]
    said = run(*words, "--per-class", cwd=tmp_path)
    assert "strong: 1 pictures could not be judged; they count as failures" in said
    found = read_results(tmp_path / "out")
    assert found.record["errors"] == {"strong": 1}
    assert found.value("esr-1", "strong", "church").value == 0.0
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
    found = editkit.evaluate(["base"], str(folder / "small.toml"), tmp_path, split="animals", seeds="0", steps=2)
    assert found is not None and found.value("psr-5", "base", "church").count == 1


@pytest.mark.slow
def test_two_processes_judge_once(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "editkit_cli", "evaluate", "base", str(folder / "strong.safetensors"), "--steps", "2"]
    command += ["--suite", str(folder / "small.toml"), "--seeds", "0-1", "--out", str(tmp_path / "two")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("results:") == 1
    alone = small(folder, tmp_path / "one", seeds="0-1")
    two = read_results(tmp_path / "two")
    assert two.record["protocol"] == alone.record["protocol"]
    damage = [one.value("sensitivity-keep", "strong") for one in (two, alone)]
    assert damage[0].count == damage[1].count == 4 and damage[0].value == pytest.approx(damage[1].value, abs=0.05)
    assert len(list((tmp_path / "two").rglob("*.png"))) == 16
    with Image.open(next((tmp_path / "two").rglob("*.png"))) as picture:
        assert picture.size == (64, 64)


class Parts:
    """Stands in for NudeNet: a box in every picture but the third, the first being the grey one that it is tried on."""

    name = "parts-1"

    def __init__(self) -> None:
        self.asked = 0

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        found = []
        for _ in pictures:
            self.asked += 1
            box = Detection(("FEET_EXPOSED",), (0.65,), ((0.0, 0.0, 9.0, 9.0),))
            found.append(Detection() if self.asked == 3 else box)
        return found


def test_nudity_suite_on_a_stand_in(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I2P's columns: no case number, a seed and a guidance a row."""
    monkeypatch.setattr(registry, "_plug_ins", dict)
    monkeypatch.setitem(registry.BUILT_IN, "nudenet", f"{__name__}:Parts")
    file = tmp_path / "i2p.csv"
    file.write_text(
        "prompt,categories,hard,sd_seed,sd_guidance_scale,sd_image_width\n"
        '"a church, at night",sexual,0,11,3,64\na dog,shocking,1,12,4,64\na fish,sexual,0,13,3,64\n'
    )
    found = small(folder, tmp_path / "out", ["base"], suite="nudity-i2p", prompts=file, seeds=None, split=None)
    value = {name: found.value(name, "base").value for name in found.record["metrics"]}
    assert value["ner-eight-0.3"] == value["ner-eight-0.5"] == pytest.approx(2 / 3)
    assert value["ner-eight-0.7"] == value["ner-intimate-0.6"] == value["ner-seven-0.6"] == 0
    assert value["ner-parts-0.6"] == pytest.approx(2 / 3)
    protocol = found.record["protocol"]
    assert protocol["sampling"]["guidance of the rows"] and protocol["prompts"]["rows"] == 3
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["0_11.png", "1_12.png", "2_13.png"]


def test_imagenette_suite_on_a_stand_in(folder: Path, tmp_path: Path) -> None:
    """Columns and spellings of the real files; two of its classes are the bundled model's too."""
    file = tmp_path / "imagenette.csv"
    file.write_text(
        "case_number,prompt,class,evaluation_seed\n0,an image of a church,Church,5\n1,an image of a church,church,6\n"
        "2,an image of a parachute,parachute,7\n3,an image, of a parachute,parachute,8\n"
    )
    with pytest.raises(EditkitError, match=r"line 5: more fields than the 4 of the first line.*--skip-bad-rows"):
        small(folder, tmp_path / "out", ["strong"], suite="imagenette", prompts=file, detector="emoji-judge", split="1")
    with pytest.warns(UserWarning) as said:
        found = small(
            folder, tmp_path / "out", ["strong"], suite="imagenette", prompts=file, detector="emoji-judge", split="3",
            seeds=None, skip_bad_rows=True, metrics=["esr-1", "psr-1"],
        )  # fmt: skip
    texts = [str(one.message) for one in said]
    assert any("1 of 4 rows left out" in one for one in texts)
    assert "strong does not erase cassette player, chain saw, gas pump, tench, which this measures as erased" in texts
    assert found.value("esr-1", "strong").count == 2 and found.value("psr-1", "strong").count == 1
    assert found.record["protocol"]["prompts"]["bad_rows"][0]["line"] == 5
    file.write_text("prompt,class\na tenchh,tenchh\n")
    with pytest.raises(EditkitError, match="'tenchh' is no class of suite imagenette; expected in column `class`"):
        small(folder, tmp_path / "b", ["strong"], suite="imagenette", prompts=file, detector="emoji-judge")


def test_coco_suite_on_a_stand_in(folder: Path, tmp_path: Path) -> None:
    """FID has one number for all, from the unedited model's pictures: 0 for itself."""
    file = tmp_path / "coco.csv"
    rows = "".join(f"{n},coco-30k,a {name},{n},7\n" for n, name in enumerate(("church", "dog", "fish", "pizza")))
    file.write_text("case_number,source,prompt,evaluation_seed,coco_id\n" + rows)
    given = {"suite": "coco", "prompts": file, "split": None, "seeds": None}
    with pytest.raises(EditkitError, match=r"CLIP: expected config.json.*clip-vit-large-patch14"):
        small(folder, tmp_path / "out", ["strong"], **given)
    found = small(folder, tmp_path / "out", ["strong"], metrics=["fid-emoji"], **given)
    assert found.value("fid-emoji", "strong").value > 0 and found.value("fid-emoji", "base").count == 0
    photographs = tmp_path / "out" / "pictures" / "strong"
    same = small(folder, tmp_path / "same", ["strong"], metrics=["fid-emoji"], reference=photographs, **given)
    assert same.variants == ["strong"]
    assert same.value("fid-emoji", "strong").value < 0.05 * found.value("fid-emoji", "strong").value


def test_artists_suite_on_a_stand_in(folder: Path, tmp_path: Path) -> None:
    """CLIP and LPIPS with random weights of the right shape; two of the bundled objects play the artists."""
    torch.manual_seed(0)
    weights = {f"features.{name}": one.clone() for name, one in alexnet().state_dict().items()}
    save_file(weights, tmp_path / "alexnet.safetensors")
    widths = [one.out_channels for one in alexnet() if isinstance(one, nn.Conv2d)]
    rows = {f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1) for n, width in enumerate(widths)}
    save_file(rows, tmp_path / "linear.safetensors")
    places = {"clip": save_clip(tmp_path / "tiny-clip", 6), "lpips": tmp_path / "alexnet.safetensors"}
    places["lpips-linear"] = tmp_path / "linear.safetensors"
    file = tmp_path / "artists.csv"
    file.write_text(
        ",case_number,prompt,evaluation_seed,artist\n0,0,a church,5,Church\n1,1,a dog,6,dog\n2,2,a cat,6,dog\n"
    )
    given = {"suite": "artists", "prompts": file, "split": None, "seeds": None, "weights": places, "size": (96, 96)}
    with pytest.warns(UserWarning, match="strong also erases Pizza"):
        found = small(folder, tmp_path / "out", ["strong"], **given)
    value = {name: found.value(name, "strong") for name in found.record["metrics"]}
    assert value["lpips-d"].value == pytest.approx(value["lpips-e"].value - value["lpips-u"].value)
    assert value["lpips-e"].count == 1 and value["lpips-u"].count == 2 and value["lpips-e"].value > 0
    assert 0 < value["clip-score-keep"].value < 100 and value["clip-score-keep"].count == 2
    assert found.record["protocol"]["checkpoints"]["clip-score-keep"].startswith("clip-score:tiny-clip-")
    assert found.record["protocol"]["detector"] == "none"


def test_time_suite_on_a_stand_in(tmp_path: Path) -> None:
    """TIME's three figures, by the bundled judge in CLIP's place."""
    edit = edit_prompt(open_model("emoji"), "a church", "a dog", options=defaults("time", "prior"))
    save_edit(edit, tmp_path / "time.safetensors")
    columns = ["old", "new", *(f"{name}{i}" for name in ("positive", "gt", "negative", "gn") for i in range(1, 6))]
    row = {"old": "a church", "new": "a dog", "positive1": "a church on a blue background", "gt1": "a dog on a blue "
           "background", "negative1": "a pizza", "gn1": "a dog"}  # fmt: skip
    lines = [columns, ["a cat", "a fish"] + [""] * 20, [row.get(name, "") for name in columns]]
    (tmp_path / "timed.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    given = {"detector": "emoji-judge", "metrics": ["efficacy-seen", "generality-seen", "specificity-seen"]}
    found = small(tmp_path, tmp_path / "out", ["base", "time"], suite="time", prompts=tmp_path / "timed.csv",
                  split=None, steps=5, **given)  # fmt: skip
    value = {name: [found.value(f"{name}-seen", one).value for one in found.variants] for name in KINDS}
    assert value["efficacy"] == [0, 1] and value["specificity"] == [1, 1] and value["generality"][0] == 0
    assert found.record["protocol"]["prompts"]["new"] == "a dog" and found.record["pictures"] == 3
    with pytest.raises(EditkitError, match=r"suite time: expected edits of one prompt to one other.* got none"):
        small(tmp_path, tmp_path / "b", ["base"], suite="time", prompts=tmp_path / "timed.csv", **given)
    (tmp_path / "timed.csv").write_text("".join(",".join(line) + "\n" for line in lines[:2]))
    with pytest.raises(EditkitError, match=r"no row changes 'a church' to 'a dog', .*it has a cat → a fish"):
        small(tmp_path, tmp_path / "b", ["time"], suite="time", prompts=tmp_path / "timed.csv", **given)


def test_the_bundled_suites_are_whole() -> None:
    from editkit.emoji.catalogue import catalogue
    from editkit.numbers.plan import make_plan
    from editkit.numbers.suites.suite import load_suite, suite_names

    known = {*catalogue().concepts, *catalogue().styles}
    for name in suite_names():
        suite = load_suite(name)
        assert suite.name == name and suite.about
        if name.startswith("emoji"):
            assert {label for labels in suite.classes.values() for label in labels} <= known
            for split in suite.splits or (None,):
                plan, _ = make_plan(suite, None, {}, split)
                files = [one.file for one in plan]
                assert len(set(files)) == len(files)
    splits = load_suite("emoji-objects").splits
    assert all(len(one) == 5 for one in splits.values()) and {*splits["1"]} | {*splits["2"]} == {
        *splits["3"],
        *splits["4"],
    }


def test_unsafe_prompts_never_say_what_is_erased() -> None:
    from editkit.numbers.plan import make_plan
    from editkit.numbers.suites.suite import load_suite

    suite = load_suite("emoji-unsafe")
    plan, notes = make_plan(suite, None, {"e": suite.erases["weapon"]})
    assert plan.split == "weapon" and not notes
    asked = [one for one in plan if one.role == "erase"]
    assert asked and not any(word in one.prompt for one in asked for word in suite.erases["weapon"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name = ", "nmae = ", r"small.toml, nmae: no such key; known are .*name"),
        ('name = "small"', "", r"small.toml, name: missing"),
        ('seeds = "0-2"', "seeds = 3", "seeds: expected a text, got 3"),
        ('["church", "dog", "pizza", "axe"]', '"church"', "classes: expected a table, got 'church'"),
        ('"an image of a {}"', '"an image"', r"templates: expected '\{\}' for the class, got 'an image'"),
        ('"esr-1", "psr-1"', '"esr-1", "psr1"', "metrics: metric 'psr1': expected one of"),
        ('"dog", "axe"]\n', '"dog", "cat"]\n', r"splits.animals: 'cat' is no class of this suite"),
        ("[splits]", "[splits", "expected TOML"),
        ("[splits]", 'role = "drop"\n[splits]', "role: expected 'erase' or 'keep', got 'drop'"),
        ("[splits]", "[debias]\nattribute = 'x'\nwanted = {woman = 2.0}\n[splits]", "debias.wanted: expected shares"),
        ('metrics = ["esr-1"', 'metrics = ["share-x"', "expected a value that .debias.wanted. of the suite names"),
    ],
)
def test_malformed_suites_name_file_and_key(old: str, new: str, message: str, tmp_path: Path) -> None:
    from editkit.numbers.suites.suite import load_suite

    content = SUITE.replace(old, new)
    assert content != SUITE
    (tmp_path / "small.toml").write_text(content)
    with pytest.raises(EditkitError, match=message):
        load_suite(str(tmp_path / "small.toml"))


def test_the_command_line_lists_what_it_knows(tmp_path: Path) -> None:
    said = run("suites", cwd=tmp_path)
    assert "emoji-objects" in said and "splits: 1, 2, 3, 4" in said and "needs: your prompt file" in said
    assert json.loads(run("suites", "--json", cwd=tmp_path))[0]["name"] == "artists"
    assert "Start it again to go on where it stopped" in run("evaluate", "--help", cwd=tmp_path)
