"""The suites: their files, and each of Stable Diffusion's on a stand-in of its prompt file, with the bundled model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from editkit.edits.method import Options
from editkit.erasure.edit import edit as change
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection
from editkit.evaluation.networks.lpips import alexnet
from editkit.evaluation.suites.suite import suites
from editkit.evaluation.time_metrics import KINDS
from editkit.model.editable import open_model
from editkit.plugins import GROUPS
from editkit.variants.edit_file import save_edit
from tests.cli import run
from tests.test_clip import save_clip
from tests.test_evaluate import SUITE, small, stored


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edit that erases a church and a pizza."""
    place = tmp_path_factory.mktemp("suites")
    edit = erase(open_model("emoji"), ["church", "pizza"], options=Options("rece", protect="none"), checked=False)
    save_edit(edit, place / "strong.safetensors")
    return place


class Parts:
    """Stands in for NudeNet: a box in every picture but the third, the first being the grey one that it is tried on."""

    name = "parts-1"

    def __init__(self) -> None:
        self.asked = 0

    def detect(self, pictures: Sequence[Image.Image]) -> list[Detection]:
        detections = []
        for _ in pictures:
            self.asked += 1
            box = Detection(("FEET_EXPOSED",), (0.65,), ((0.0, 0.0, 9.0, 9.0),))
            detections.append(Detection() if self.asked == 3 else box)
        return detections


def test_nudity_suite_on_a_stand_in(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I2P's columns: no case number, a seed and a guidance a row."""
    own: Any = GROUPS["detectors"].own
    monkeypatch.setitem(own, "nudenet", f"{__name__}:Parts")
    file = tmp_path / "i2p.csv"
    file.write_text(
        "prompt,categories,hard,sd_seed,sd_guidance_scale,sd_image_width\n"
        '"a church, at night",sexual,0,11,3,64\na dog,shocking,1,12,4,64\na fish,sexual,0,13,3,64\n'
    )
    results = small(folder, tmp_path / "out", ["base"], suite="nudity-i2p", prompts=file, seeds=None, split=None)
    value = {name: results.value(name, "base").value for name in results.record["metrics"]}
    assert value["ner-eight-0.3"] == value["ner-eight-0.5"] == pytest.approx(2 / 3)
    assert value["ner-eight-0.7"] == value["ner-intimate-0.6"] == value["ner-seven-0.6"] == 0
    assert value["ner-parts-0.6"] == pytest.approx(2 / 3)
    protocol = results.record["protocol"]
    assert protocol["suite"]["protocol"].startswith("I2P") and protocol["suite"]["version"] == "1"
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
        results = small(
            folder, tmp_path / "out", ["strong"], suite="imagenette", prompts=file, detector="emoji-judge", split="3",
            seeds=None, skip_bad_rows=True, metrics=["esr-1", "psr-1"],
        )  # fmt: skip
    texts = [str(warning.message) for warning in said]
    assert any("1 of 4 rows left out" in text for text in texts)
    assert "strong does not erase cassette player, chain saw, gas pump, tench, which this measures as erased" in texts
    assert results.value("esr-1", "strong").count == 2 and results.value("psr-1", "strong").count == 1
    assert results.record["protocol"]["prompts"]["bad_rows"][0]["line"] == 5
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
    results = small(folder, tmp_path / "out", ["strong"], metrics=["fid-emoji"], **given)
    assert results.value("fid-emoji", "strong").value > 0 and results.value("fid-emoji", "base").count == 0
    photographs = tmp_path / "out" / "pictures" / "strong"
    same = small(folder, tmp_path / "same", ["strong"], metrics=["fid-emoji"], reference=photographs, **given)
    assert same.variants == ["strong"]
    assert same.value("fid-emoji", "strong").value < 0.05 * results.value("fid-emoji", "strong").value


def test_artists_suite_on_a_stand_in(folder: Path, tmp_path: Path) -> None:
    """CLIP and LPIPS with random weights of the right shape; two of the bundled objects play the artists."""
    torch.manual_seed(0)
    weights = {f"features.{name}": tensor.clone() for name, tensor in alexnet().state_dict().items()}
    save_file(weights, tmp_path / "alexnet.safetensors")
    widths = [layer.out_channels for layer in alexnet() if isinstance(layer, nn.Conv2d)]
    rows = {f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1) for n, width in enumerate(widths)}
    save_file(rows, tmp_path / "linear.safetensors")
    places = {"clip": save_clip(tmp_path / "tiny-clip", 6), "lpips": tmp_path / "alexnet.safetensors"}
    places["lpips-linear"] = tmp_path / "linear.safetensors"
    file = tmp_path / "artists.csv"
    file.write_text(
        ",case_number,prompt,evaluation_seed,artist\n0,0,a church,5,Church\n1,1,a dog,6,dog\n2,2,a cat,6,dog\n"
    )
    given = {"suite": "artists", "prompts": file, "split": None, "seeds": None, "weights": places, "size": (96, 96)}
    with pytest.warns(UserWarning, match="strong also erases pizza"):
        results = small(folder, tmp_path / "out", ["strong"], **given)
    value = {name: results.value(name, "strong") for name in results.record["metrics"]}
    assert value["lpips-d"].value == pytest.approx(value["lpips-e"].value - value["lpips-u"].value)
    assert value["lpips-e"].count == 1 and value["lpips-u"].count == 2 and value["lpips-e"].value > 0
    assert 0 < value["clip-score-keep"].value < 100 and value["clip-score-keep"].count == 2
    assert results.record["protocol"]["checkpoints"]["clip-score-keep"].startswith("clip-score:tiny-clip-")
    assert results.record["protocol"]["detector"] == "none"


def test_time_suite_on_a_stand_in(tmp_path: Path) -> None:
    """TIME's three figures, by the bundled judge in CLIP's place."""
    edit = change(open_model("emoji"), "a church", "a dog", options=Options("time", protect="prior"))
    save_edit(edit, tmp_path / "time.safetensors")
    columns = ["old", "new", *(f"{name}{i}" for name in ("positive", "gt", "negative", "gn") for i in range(1, 6))]
    row = {"old": "a church", "new": "a dog", "positive1": "a church on a blue background", "gt1": "a dog on a blue "
           "background", "negative1": "a pizza", "gn1": "a dog"}  # fmt: skip
    lines = [columns, ["a cat", "a fish"] + [""] * 20, [row.get(name, "") for name in columns]]
    (tmp_path / "timed.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    given = {"detector": "emoji-judge", "metrics": ["efficacy-seen", "generality-seen", "specificity-seen"]}
    results = small(tmp_path, tmp_path / "out", ["base", "time"], suite="time", prompts=tmp_path / "timed.csv",
                  split=None, steps=5, **given)  # fmt: skip
    value = {name: [results.value(f"{name}-seen", variant).value for variant in results.variants] for name in KINDS}
    assert value["efficacy"] == [0, 1] and value["specificity"] == [1, 1] and value["generality"][0] == 0
    assert results.record["protocol"]["prompts"]["new"] == "a dog" and results.record["pictures"] == 3
    with pytest.raises(EditkitError, match=r"suite time: expected edits of one prompt to one other.* got none"):
        small(tmp_path, tmp_path / "b", ["base"], suite="time", prompts=tmp_path / "timed.csv", **given)
    (tmp_path / "timed.csv").write_text("".join(",".join(line) + "\n" for line in lines[:2]))
    with pytest.raises(EditkitError, match=r"no row changes 'a church' to 'a dog', .*it has a cat → a fish"):
        small(tmp_path, tmp_path / "b", ["time"], suite="time", prompts=tmp_path / "timed.csv", **given)


def test_the_bundled_suites_are_whole() -> None:
    from editkit.emoji.catalogue import GENDERS, catalogue
    from editkit.evaluation.plan import make_plan
    from editkit.evaluation.suites.suite import load_suite, suite_names

    emoji = catalogue()
    known = {*emoji.concepts, *emoji.styles, *emoji.backgrounds, *emoji.tones, *GENDERS}
    for name in suite_names():
        suite = load_suite(name)
        assert suite.name == name and suite.about
        if name.startswith("emoji") and suite.file is None:
            assert {label for labels in suite.classes.values() for label in labels} <= known
            for split in suite.splits or (None,):
                plan, _ = make_plan(suite, None, {}, split)
                files = [case.file for case in plan]
                assert len(set(files)) == len(files)
    splits = load_suite("emoji-objects").splits
    assert all(len(classes) == 5 for classes in splits.values()) and {*splits["1"]} | {*splits["2"]} == {
        *splits["3"],
        *splits["4"],
    }


def test_every_bundled_suite_names_its_protocol_and_version(tmp_path: Path) -> None:
    said = run("suites", cwd=tmp_path)
    for suite in suites():
        assert suite.protocol and suite.version, suite.name
        assert f"protocol: {suite.protocol}, version {suite.version}" in said
        assert suite.record == {
            "name": suite.name, "protocol": suite.protocol, "version": suite.version, "sha256": suite.sha256
        }  # fmt: skip
    listed = {each["name"]: each for each in json.loads(run("suites", "--json", cwd=tmp_path))}
    assert listed["time"]["protocol"] == "TIME (Orgad et al. 2023), section 5" and listed["time"]["version"] == "1"


def test_the_hash_of_a_suite_is_of_what_it_measures(tmp_path: Path) -> None:
    from editkit.evaluation.suites.suite import load_suite

    place, hashes = tmp_path / "small.toml", []
    more = 'protocol = "Ours"\nversion = "1"\n'
    for content in (SUITE, more + SUITE, SUITE.replace("0-2", "0-3")):
        place.write_text(content)
        hashes.append(load_suite(str(place)).sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_unsafe_prompts_never_say_what_is_erased() -> None:
    from editkit.emoji.catalogue import catalogue
    from editkit.evaluation.plan import make_plan
    from editkit.evaluation.suites.suite import load_suite

    suite = load_suite("emoji-unsafe")
    plan, notes = make_plan(suite, None, {"e": ["weapon"]})
    assert plan.split == "weapon" and not notes
    asked = [case for case in plan if case.role == "erase"]
    assert {case.label for case in asked} == {*catalogue().hypernyms["weapon"]}
    assert not any("weapon" in case.prompt for case in plan)


def test_implicit_prompts_never_say_what_is_erased() -> None:
    from editkit.evaluation.plan import make_plan
    from editkit.evaluation.suites.suite import load_suite

    suite = load_suite("emoji-implicit")
    plan, notes = make_plan(suite, None, {"e": suite.erases["weapon"]})
    assert plan.split == "weapon" and not notes
    asked = [case for case in plan if case.role == "erase"]
    assert asked and not any(word in case.prompt for case in asked for word in suite.erases["weapon"])


BOUND = """
name = "bound"
about = "What a prompt says of a dog."
detector = "emoji-judge"
metrics = ["psr-1", "subject-1"]
seeds = "0-1"
role = "keep"

[[bindings]]
attribute = "background"
classes = ["blue", "orange"]
templates = ["a {subject} on a {} background"]
subjects = ["dog", "owl"]

[[bindings]]
attribute = "style"
classes = ["noto"]
templates = ["a {subject} in the style of {}"]
subjects = ["dog"]
"""


def test_bindings_ask_for_several_attributes_in_one_suite(folder: Path, tmp_path: Path) -> None:
    """Each class is looked for in its own attribute: counted again by hand from what the judge said."""
    (tmp_path / "bound.toml").write_text(BOUND)
    results = small(
        folder, tmp_path / "out", ["base", "strong"], suite=tmp_path / "bound.toml", split=None, seeds=None, steps=5
    )
    for variant in results.variants:
        lines = stored(results.folder, variant)
        assert [line["prompt"] for line in lines[::2]] == [
            "a dog on a blue background", "an owl on a blue background", "a dog on an orange background",
            "an owl on an orange background", "a dog in the style of noto",
        ]  # fmt: skip
        said: list[Any] = [line["attributes"] for line in lines]
        asked = ["background"] * 8 + ["style"] * 2
        own = [each[name] == line["class"] for each, name, line in zip(said, asked, lines, strict=True)]
        assert results.value("psr-1", variant).value == pytest.approx(sum(own) / 10)
        assert results.value("psr-1", variant, "noto").value == pytest.approx(sum(own[8:]) / 2)
        assert results.value("subject-1", variant).count == 10
    assert results.value("psr-1", "base", "blue").value == 1


def test_binding_prompts_name_nothing_that_is_erased_and_only_what_the_judge_knows() -> None:
    from editkit.emoji.judge import EmojiJudge
    from editkit.evaluation.suites.suite import load_suite

    suite, labels = load_suite("emoji-binding"), EmojiJudge().labels
    erased = load_suite("emoji-objects").splits["1"]
    for part in suite.parts:
        assert part.attribute is not None and {*part.classes} <= {*labels[part.attribute]}
        assert {*part.subjects} <= {*labels["concept"]} and not {*part.subjects} & {*erased}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('role = "keep"', 'role = "keep"\nclasses = ["dog"]', r"classes: expected in \[\[bindings\]\] alone"),
        ('attribute = "style"', 'atribute = "style"', "bindings.atribute: no such key; known are attribute, classes"),
        ('classes = ["noto"]', 'classes = ["blue"]', "bindings: expected every class once, got 'blue' twice"),
        ("a {subject} in the", "a dog in the", r"templates: expected '\{\}' for the class and '\{subject\}'"),
        ('classes = ["noto"]', "", "classes: missing"),
        ("[[bindings]]", "[bindings]", "expected TOML|bindings: expected tables"),
    ],
)
def test_malformed_bindings_name_the_key(old: str, new: str, message: str, tmp_path: Path) -> None:
    from editkit.evaluation.suites.suite import load_suite

    content = BOUND.replace(old, new)
    assert content != BOUND
    (tmp_path / "bound.toml").write_text(content)
    with pytest.raises(EditkitError, match=message):
        load_suite(str(tmp_path / "bound.toml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name = ", "nmae = ", r"small.toml, nmae: no such key; known are .*name"),
        ('name = "small"', "", r"small.toml, name: missing"),
        ('seeds = "0-2"', "seeds = 3", "seeds: expected a text, got 3"),
        ('["church", "dog", "pizza", "axe"]', '"church"', "classes: expected a table, got 'church'"),
        ('"an image of a {}"', '"an image"', r"templates: expected '\{\}' for the class, got 'an image'"),
        ('"esr-1", "psr-1"', '"esr-1", "psr1"', "metrics: metric 'psr1': did you mean psr"),
        ('"dog", "axe"]\n', '"dog", "cat"]\n', r"splits.animals: 'cat' is no class of this suite"),
        ('name = "small"', 'name = "small"\nversion = 1', "version: expected a text, got 1"),
        ('name = "small"', 'name = "small"\nprotocol = " "', "protocol: expected a text, got ' '"),
        ("[splits]", "[splits", "expected TOML"),
        ("[splits]", 'role = "drop"\n[splits]', "role: expected 'erase' or 'keep', got 'drop'"),
        ("[splits]", "[debias]\nattribute = 'x'\nwanted = {woman = 2.0}\n[splits]", "debias.wanted: expected shares"),
        ('metrics = ["esr-1"', 'metrics = ["share-x"', "expected a value that .debias.wanted. of the suite names"),
    ],
)
def test_malformed_suites_name_file_and_key(old: str, new: str, message: str, tmp_path: Path) -> None:
    from editkit.evaluation.suites.suite import load_suite

    content = SUITE.replace(old, new)
    assert content != SUITE
    (tmp_path / "small.toml").write_text(content)
    with pytest.raises(EditkitError, match=message):
        load_suite(str(tmp_path / "small.toml"))


def test_the_bundled_edits_are_in_times_format_and_name_what_the_model_knows() -> None:
    from editkit.evaluation.suites.suite import load_suite
    from editkit.evaluation.time_metrics import read_time_trials

    suite = load_suite("emoji-time")
    assert suite.file is not None
    trials, profile = read_time_trials(suite.file), open_model("emoji").profile
    counts = {kind: sum(trial.kind == kind for trial in trials) for kind in KINDS}
    assert counts == {"efficacy": 14, "generality": 70, "specificity": 70}
    assert profile.knows is not None
    words = {word for trial in trials for text in (trial.prompt, trial.wanted, trial.other) for word in text.split()}
    assert words <= {*profile.knows}, words - {*profile.knows}
    assert all(trial.wanted != trial.other for trial in trials)


def test_a_suite_may_bring_its_prompts(tmp_path: Path) -> None:
    from editkit.evaluation.suites.suite import load_suite

    said = 'name = "own"\ndetector = "emoji-judge"\nmetrics = ["efficacy-seen"]\nfile = "own.csv"\n'
    place = tmp_path / "own.toml"
    place.write_text(said + 'prompts = "time"\n')
    with pytest.raises(EditkitError, match=r"file: .*own.csv: no such file; it is looked for beside the suite"):
        load_suite(str(place))
    (tmp_path / "own.csv").write_text("old,new\n")
    assert load_suite(str(place)).file == tmp_path / "own.csv"
    place.write_text(said + 'classes = ["church"]\ntemplates = ["a {}"]\n')
    with pytest.raises(EditkitError, match=r'file: goes with prompts = "file" or "time"'):
        load_suite(str(place))
