"""LPIPS, Fréchet distance and TIME's figures against formulas written out plainly."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torch.nn import functional as F

from editkit.emoji.judge import EmojiJudge
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection
from editkit.evaluation.metrics.metric import KEEP, Observation
from editkit.evaluation.metrics.named import metric
from editkit.evaluation.metrics.nearness import Efficacy, seen_likeness
from editkit.evaluation.networks.fid import Moments, frechet_distance, moments
from editkit.evaluation.networks.inception import load_inception
from editkit.evaluation.networks.lpips import Lpips, alexnet, load_lpips
from editkit.evaluation.time_metrics import COLUMNS, KINDS, Trial, read_time_trials
from editkit.plugins import make
from tests.pictures_of_emoji import drawn, noise, truncated

CHANNELS = (64, 192, 384, 256, 256)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with torchvision's names, classifier included."""
    torch.manual_seed(0)
    tensors = {f"features.{name}": tensor for name, tensor in alexnet().state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(tensors | {"classifier.1.bias": torch.zeros(3)}, path)
    return path


@pytest.fixture(scope="module")
def linear(backbone: Path) -> Path:
    path = backbone.with_name("alex.pth")
    rows = {f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1) for n, width in enumerate(CHANNELS)}
    torch.save(rows, path)
    return path


@pytest.fixture(scope="module")
def lpips(backbone: Path, linear: Path) -> Lpips:
    return load_lpips(backbone, linear)


def naive_lpips(first: Image.Image, second: Image.Image, weights: dict[str, Tensor], rows: dict[str, Tensor]) -> float:
    """Equation 1 of the paper, pixel by pixel, over the layers of AlexNet one after another."""

    def layers(picture: Image.Image) -> list[np.ndarray]:
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        mean, deviation = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        x = (x - mean[:, None, None]) / deviation[:, None, None]
        features = []
        for number, stride, padding, pool in ((0, 4, 2, 0), (3, 1, 2, 1), (6, 1, 1, 1), (8, 1, 1, 0), (10, 1, 1, 0)):
            x = F.max_pool2d(x, 3, 2) if pool else x
            x = F.conv2d(x, weights[f"features.{number}.weight"], weights[f"features.{number}.bias"], stride, padding)
            x = x.clamp(min=0)
            features.append(x[0].double().numpy())
        return features

    total = 0.0
    for number, (f, g) in enumerate(zip(layers(first), layers(second), strict=True)):
        w = rows[f"lin{number}.model.1.weight"].flatten().double().numpy()
        _, height, width = f.shape
        for y in range(height):
            for x in range(width):
                a, b = (part[:, y, x] / (np.linalg.norm(part[:, y, x]) + 1e-10) for part in (f, g))
                total += float(w @ (a - b) ** 2) / (height * width)
    return total


def test_lpips_against_the_plain_formula(lpips: Lpips, backbone: Path, linear: Path) -> None:
    weights, rows = torch.load(backbone, weights_only=True), torch.load(linear, weights_only=True)
    first, second = noise(3, (64, 72)), noise(3, (64, 72), seed=1)
    expected = [naive_lpips(a, b, weights, rows) for a, b in zip(first, second, strict=True)]
    assert min(expected) > 0.01
    assert lpips.distances(first, second) == pytest.approx(expected, rel=1e-4)


def test_lpips_against_its_package(lpips: Lpips, backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' network and weights; torchvision, which they want only for the shape of AlexNet, stood in for."""
    if find_spec("lpips") is None:
        pytest.skip("package lpips, the reference, is not installed: pip install --no-deps lpips")
    for name in [name for name in sys.modules if name.split(".")[0] in ("lpips", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    shapes = ModuleType("torchvision")
    features = alexnet().eval()
    features.load_state_dict(
        {
            n.removeprefix("features."): w
            for n, w in torch.load(backbone, weights_only=True).items()
            if n.startswith("features")
        }
    )
    holder = nn.Module()
    holder.features = features
    shapes.models = type("models", (), {"alexnet": staticmethod(lambda pretrained: holder)})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", shapes)
    import lpips as package  # pyright: ignore[reportMissingImports]

    theirs: Any = package.LPIPS(net="alex", verbose=False)
    first, second = noise(2), noise(2, seed=1)
    pixels = [torch.from_numpy(np.stack([np.array(p) for p in group])).permute(0, 3, 1, 2) / 127.5 - 1
              for group in (first, second)]  # fmt: skip
    with torch.no_grad():
        expected = theirs(*pixels).flatten().tolist()
    for name in [name for name in sys.modules if name.split(".")[0] == "lpips"]:
        monkeypatch.delitem(sys.modules, name)
    assert load_lpips(backbone).distances(first, second) == pytest.approx(expected, rel=1e-4)


def test_lpips_is_a_distance(lpips: Lpips, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = [*noise(2), *drawn()], [*drawn(), *noise(2, seed=1)]
    assert lpips.distances(first, first) == [0] * 6
    there, back = lpips.distances(first, second), lpips.distances(second, first)
    assert there == pytest.approx(back, rel=1e-5) and min(there) > 0
    monkeypatch.setattr(lpips, "batch", 1)
    assert lpips.distances(first, second) == pytest.approx(there, rel=1e-4)
    assert lpips.distances([], []) == []


def test_lpips_sizes(backbone: Path, linear: Path, lpips: Lpips) -> None:
    resized = load_lpips(backbone, linear, size=64)
    assert (resized.name, lpips.name) == ("lpips-alex-0.1@64", "lpips-alex-0.1")
    assert resized.distances(noise(1, (90, 80)), noise(1)) != [0]
    with pytest.raises(EditkitError, match=r"expected one size, found \(64, 64\) and \(90, 80\); name a size for all"):
        lpips.distances(noise(1, (90, 80)), noise(1))
    with pytest.raises(EditkitError, match="LPIPS: expected pairs of pictures, got 1 and 2"):
        lpips.distances(noise(1), noise(2))


def test_weights_that_are_not_there(
    backbone: Path, linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = rf"{tmp_path}/hub/checkpoints"
    with pytest.raises(
        EditkitError, match=rf"AlexNet: no weights at {place}/alexnet-owt-7be5be79\.pth; put them there"
    ):
        load_lpips()
    with pytest.raises(
        EditkitError, match=rf"no weights at {place}/resnet50-11ad3fa6\.pth; put them there, from https"
    ):
        make("detectors", "resnet50")
    with pytest.raises(EditkitError, match=rf"no weights at {place}/weights-inception-2015-12-05-6726825d\.pth; put"):
        load_inception()
    with pytest.raises(EditkitError, match=r"LPIPS's AlexNet: .*alex\.pth holds the weights of something else"):
        load_lpips(linear, linear)
    with pytest.raises(EditkitError, match=r"linear weights: .*alexnet\.pth holds something else: no lin0\.model\.1"):
        load_lpips(backbone, backbone)
    monkeypatch.setattr("editkit.evaluation.networks.lpips.find_spec", lambda name: None)
    with pytest.raises(EditkitError, match="package lpips is not installed; pip install --no-deps lpips, or name the"):
        load_lpips(backbone)


class Runs:
    def __reduce__(self) -> Any:
        return print, ("code of a pickle ran",)


def test_no_code_of_a_weight_file_runs(linear: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"features.0.weight": Runs()}, tmp_path / "bad.pth")
    (tmp_path / "cut.pth").write_bytes(linear.read_bytes()[:200])
    (tmp_path / "cut.safetensors").write_bytes(b"\0" * 4)
    torch.save([1, 2], tmp_path / "list.pth")
    for name, reason in {
        "bad.pth": "cannot be read",
        "cut.pth": "cannot be read",
        "cut.safetensors": "its first bytes are those of no known format",
        "list.pth": "expected a table of tensors in .*, found list",
    }.items():
        with pytest.raises(EditkitError, match=reason):
            load_lpips(tmp_path / name, linear)
    assert "code of a pickle" not in capsys.readouterr().out


def test_frechet_distance_against_scipy() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(90, 12)) @ rng.normal(size=(12, 12)), rng.normal(1, 2, size=(70, 12))
    means = [rows.mean(axis=0) for rows in (first, second)]
    covs = [np.cov(rows, rowvar=False) for rows in (first, second)]
    root: Any = sqrtm(covs[0] @ covs[1])
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(covs[0] + covs[1] - 2 * root.real)
    assert frechet_distance(gathered(first), gathered(second)) == pytest.approx(expected, rel=1e-9)


def gathered(rows: np.ndarray, batch: int = 17) -> Moments:
    total = Moments()
    for start in range(0, len(rows), batch):
        total.add(rows[start : start + batch])
    return total


def test_moments_do_not_depend_on_the_parts() -> None:
    rows = np.random.default_rng(1).normal(100, 1, size=(53, 6))
    for batch in (1, 7, 53):
        total = gathered(rows, batch)
        assert total.count == 53 and np.allclose(total.mean, rows.mean(axis=0), rtol=1e-12)
        assert np.allclose(total.covariance, np.cov(rows, rowvar=False), rtol=1e-9)


def test_frechet_distance_of_known_gaussians() -> None:
    """The same set: 0. Moved by v: |v|². Scaled by 2 about the mean: tr(C). Fewer rows than features: still real."""
    rows = np.random.default_rng(2).normal(size=(9, 20))
    first, moved, scaled = (gathered(values) for values in (rows, rows + 3, rows.mean(axis=0) * -1 + rows * 2))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(first, moved) == pytest.approx(9 * 20, rel=1e-9)
    assert frechet_distance(first, scaled) == pytest.approx(np.trace(np.cov(rows, rowvar=False)), rel=1e-9)
    with pytest.raises(EditkitError, match="expected at least 2 pictures on either side, got 1"):
        frechet_distance(first, gathered(rows[:1]))
    with pytest.raises(EditkitError, match="the same features of both, got widths 20 and 3"):
        frechet_distance(first, gathered(rows[:, :3]))


def test_fid_with_the_judges_features() -> None:
    """Pictures of the model are nearer to each other than to noise."""
    features = EmojiJudge()
    first, second, whole = (moments(part, features) for part in (drawn()[:2], drawn()[2:], drawn()))
    far = moments(iter(noise(6)), features)
    assert frechet_distance(whole, far) > frechet_distance(first, second) > 0
    assert (whole.count, far.count) == (4, 6)
    assert frechet_distance(whole, whole) == pytest.approx(0, abs=1e-6)
    assert np.allclose(moments(drawn(), features, batch=1).scatter, moments(drawn(), features).scatter, atol=1e-4)
    assert features.features([]).shape == (0, 256)


def test_inception_without_its_package(linear: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(EditkitError, match=r"FID's Inception: needs torch_fidelity.*pip install 'editkit\[fid\]'"):
        load_inception(weights=linear)


def test_a_broken_picture_is_named(lpips: Lpips, tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"cut\.png: cannot be read"):
        lpips.distances([truncated(tmp_path)], noise(1))


def time_file(path: Path, **cells: str) -> Path:
    row = {name: f"a {name}" for name in COLUMNS} | cells
    path.write_text(",".join(row).replace("old", "Old") + "\n" + ",".join(row.values()) + "\n", encoding="utf-8")
    return path


def test_time_trials(tmp_path: Path) -> None:
    trials = read_time_trials(time_file(tmp_path / "timed.csv", positive5="", gt5=""))
    kinds = [trial.kind for trial in trials]
    assert [kinds.count(kind) for kind in ("efficacy", "generality", "specificity")] == [1, 4, 5]
    assert trials[0] == Trial("efficacy", "a old", "a new", "a old")
    assert Trial("generality", "a positive2", "a gt2", "a positive2") in trials
    assert Trial("specificity", "a negative3", "a negative3", "a gn3") in trials


def test_bad_time_files(tmp_path: Path) -> None:
    path = tmp_path / "timed.csv"
    for cells, message in (
        ({"gt2": ""}, "line 2: expected positive2 and gt2 both or neither"),
        ({"new": " "}, "line 2: expected an edit, old and new are 'a old' and ''"),
        ({"gn5": "a, b"}, "line 2: more fields than the 22 of the first line; text with commas in it needs quotes"),
    ):
        with pytest.raises(EditkitError, match=message):
            read_time_trials(time_file(path, **cells))
    for text, message in (("old,new\na,b\n", "positive1 is not there"), (",".join(COLUMNS) + "\n", "and no rows")):
        path.write_text(text)
        with pytest.raises(EditkitError, match=message):
            read_time_trials(path)
    with pytest.raises(EditkitError, match=r"none\.csv: expected a text file, but it cannot be read \(No such file"):
        read_time_trials(tmp_path / "none.csv")


def test_time_by_the_judge(tmp_path: Path) -> None:
    """Pictures of a church, a dog, a pizza and a rocket, as if an edit had turned dogs into pizzas."""
    church, dog, pizza, rocket = drawn()
    trials = [
        (pizza, Trial("efficacy", "a dog", "a pizza", "a dog")),
        (dog, Trial("efficacy", "a dog", "a pizza", "a dog")),
        (pizza, Trial("generality", "a dog in red", "a pizza in red", "a dog in red")),
        (church, Trial("specificity", "a church", "a church", "a pizza")),
        (rocket, Trial("specificity", "a rocket", "a rocket", "a pizza")),
    ]
    judge = EmojiJudge()
    seen = []
    for number, (picture, trial) in enumerate(trials):
        picture.save(path := tmp_path / f"{number}.png")
        (detection,) = judge.detect([picture])
        seen.append(
            Observation(trial.prompt, trial.kind, KEEP, (), detection, path, closer=(trial.wanted, trial.other))
        )
    efficacy, generality, specificity = (metric(f"{kind}-seen").measure(seen) for kind in KINDS)
    assert efficacy == [1, 0, None, None, None]
    assert generality == [None, None, 1, None, None]
    assert specificity == [None, None, None, 1, 1]
    strange = replace(seen[0], closer=("a gnu in space", "a dog"))
    with pytest.raises(EditkitError, match="expected a label of the detector in 'a gnu in space', found none"):
        metric("efficacy-seen").measure([strange])


@pytest.mark.parametrize(
    ("wanted", "other", "success"),
    [
        ("a rose on a blue background", "a rose", True),  # what is seen
        ("a rose on a pink background", "a rose", False),
        ("a rose", "a rose on a pink background", True),  # nothing that a leak adds
        ("a rose", "a rose on a blue background", False),
        ("a rose in the style of noto", "a rose in the style of fluent", True),
        ("a rose in the style of fluent", "a rose in the style of noto", False),
        ("a rose", "a plant", True),  # a word that is no label
        ("a dog", "an animal", False),
        ("a rose", "a dog", True),  # two labels: their scores
        ("a dog", "a rose", False),
        ("a rose", "a rose", False),  # the same text: a draw is no success
    ],
)
def test_texts_are_told_apart_by_what_a_detector_sees(wanted: str, other: str, success: bool) -> None:
    detection = Detection(("rose", "dog"), (0.7, 0.3), attributes={"background": "blue", "style": "noto"})
    near, far = seen_likeness(detection, wanted, other)
    assert (near > far) is success


def test_a_draw_and_a_broken_picture_are_failures(tmp_path: Path) -> None:
    class Even:
        """A CLIP that finds every text as near as any other."""

        def cosines(self, pictures: Sequence[Image.Image], texts: Sequence[Sequence[str]]) -> np.ndarray:
            return np.ones((len(pictures), 2))

    noise(1)[0].save(tmp_path / "noise.png")
    for file in ("noise.png", "missing.png"):
        seen = Observation("a dog", "efficacy", KEEP, (), Detection(), tmp_path / file, closer=("a pizza", "a dog"))
        assert Efficacy().holding(clip=Even()).measure([seen]) == [0.0]
