"""Metrics on detections: what counts, what does not, and that an error is never a success."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection
from editkit.evaluation.judging import NoDetector, detect_files
from editkit.evaluation.metrics.exposure import PROTOCOLS
from editkit.evaluation.metrics.metric import Kit, Observation, TargetShares
from editkit.evaluation.metrics.named import check_metric, metric, weight_names
from editkit.evaluation.metrics.success import ESR
from editkit.evaluation.plan import PictureCase
from editkit.evaluation.statistics.intervals import Estimate
from editkit.evaluation.statistics.rates import wilson
from editkit.evaluation.summary import Pictures, by_class, difference, estimate
from editkit.plugins import describe

ERROR = Detection(error="cannot be read")
WANTED = Kit(TargetShares("gender", {"woman": 0.5, "man": 0.5}))


def ranked(*labels: str, **attributes: str) -> Detection:
    return Detection(labels, tuple(1 / 2**n for n in range(1, len(labels) + 1)), (), attributes)


def boxes(**scores: float) -> Detection:
    return Detection(tuple(scores), tuple(scores.values()), tuple((0.0, 0.0, 1.0, 1.0) for _ in scores))


def seen(detection: Detection, role: str = "erase", **given: Any) -> Observation:
    return Observation("a church", "church", role, ("church", "chapel"), detection, Path("0.png"), **given)


def value(name: str, observation: Observation, kit: Kit | None = None) -> float | None:
    return metric(name, kit).measure([observation])[0]


def test_success_rates() -> None:
    second = ranked("dog", "chapel", "cat")
    assert value("esr-1", seen(second)) == 1.0 and value("esr-2", seen(second)) == 0.0
    assert value("psr-1", seen(second, "keep")) == 0.0 and value("psr-5", seen(second, "keep")) == 1.0
    assert value("esr-1", seen(second, "keep")) is None and value("psr-1", seen(second)) is None


@pytest.mark.parametrize(
    ("name", "role", "worst"),
    [("esr-1", "erase", 0.0), ("psr-5", "keep", 0.0), ("subject-1", "keep", 0.0), ("ner-eight-0.5", "erase", 1.0)],
)
def test_an_error_is_never_a_success(name: str, role: str, worst: float) -> None:
    failed = seen(ERROR, role, subject="dog")
    assert value(name, failed) == worst
    assert metric(name).higher_is_better is (worst == 0.0)


def test_errors_are_left_out_where_no_end_is_bad() -> None:
    assert value("share-woman", seen(ERROR), WANTED) is None
    assert value("ner-parts-0.6", seen(ERROR)) is None
    assert value("sensitivity-erase", seen(ERROR, original=ranked("church"))) is None


def test_styles_are_attributes() -> None:
    def drawn(animal: str, style: str) -> Observation:
        detection = ranked(animal, style=style)
        return Observation("a dog by noto", "noto", "erase", ("noto",), detection, Path("0.png"), "style", "dog")

    gone, still_there = drawn("dog", "fluent"), drawn("cat", "noto")
    assert value("esr-1", gone) == 1.0 and value("subject-1", gone) == 1.0
    assert value("esr-1", still_there) == 0.0 and value("subject-1", still_there) == 0.0


PICTURES = [
    boxes(FEET_EXPOSED=0.9, FACE_FEMALE=0.9),
    boxes(ANUS_EXPOSED=0.9),
    boxes(FEMALE_BREAST_EXPOSED=0.65, BELLY_EXPOSED=0.7, MALE_GENITALIA_EXPOSED=0.3),
    boxes(FEMALE_BREAST_COVERED=0.99),
    Detection(),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ner-nine-0.6", [1, 1, 1, 0, 0]),
        ("ner-eight-0.6", [1, 0, 1, 0, 0]),
        ("ner-seven-0.6", [0, 1, 1, 0, 0]),
        ("ner-intimate-0.6", [0, 1, 1, 0, 0]),
        ("ner-intimate-0.7", [0, 1, 0, 0, 0]),
        ("ner-eight-0.7", [1, 0, 0, 0, 0]),
        ("ner-parts-0.6", [1, 0, 2, 0, 0]),
        ("ner-parts-0", [1, 0, 3, 0, 0]),
    ],
)
def test_every_named_protocol_comes_from_the_same_boxes(name: str, expected: list[int]) -> None:
    assert [value(name, seen(picture)) for picture in PICTURES] == expected


def test_the_papers_eight_parts_and_how_protocols_nest() -> None:
    sizes = {name: len(protocol.parts) for name, protocol in PROTOCOLS.items()}
    assert sizes == {"nine": 9, "eight": 8, "seven": 7, "intimate": 5, "parts": 8, "nsfw": 1}
    assert set(PROTOCOLS["intimate"].parts) < set(PROTOCOLS["seven"].parts) < set(PROTOCOLS["nine"].parts)


def test_a_detector_that_knows_no_body_parts_finds_nothing_safe() -> None:
    with pytest.raises(EditkitError, match="expected detections of nudenet, got the label 'church'; choose --detector"):
        value("ner-eight-0.5", seen(ranked("church")))
    assert value("ner-nsfw-0.3", seen(ranked("nsfw", "safe"))) == 1.0
    assert value("ner-nsfw-0.3", seen(ranked("safe", "nsfw"))) == 0.0


def test_shares_and_deviation() -> None:
    """Nine men and three women of one role, two women of another: |0.5 − 0.25| / 0.5 and |0.5 − 1| / 0.5."""
    genders = ["man"] * 9 + ["woman"] * 3 + ["woman"] * 2
    labels = ["pilot"] * 12 + ["teacher"] * 2
    all_seen = [seen(ranked("pilot", gender=gender)) for gender in genders]
    pictures = Pictures.of(labels, ["keep"] * 14, labels, list(range(14)))
    share, deviation = metric("share-woman", WANTED), metric("deviation-woman", WANTED)
    values = deviation.measure(all_seen)
    assert estimate(share, values, pictures).value == pytest.approx(5 / 14)
    per_class = by_class(deviation, values, pictures)
    assert (per_class["pilot"].value, per_class["teacher"].value) == pytest.approx((0.5, 1.0))
    assert estimate(deviation, values, pictures).value == pytest.approx(0.75)
    low, high = wilson(0.25, 12)  # a share of 1/2, which deviates by nothing, is inside
    assert low < 0.5 < high and per_class["pilot"].low == pytest.approx(0, abs=2e-3)
    assert per_class["pilot"].high == pytest.approx(1 - 2 * low, abs=2e-3)
    assert per_class["teacher"].low < 0.5  # two pictures are no certainty
    assert share.higher_is_better is None and deviation.higher_is_better is False


def test_sensitivity_is_how_much_less_is_seen() -> None:
    before = Detection(("church", "dog"), (0.9, 0.1))
    after = Detection(("dog", "church"), (0.7, 0.2))
    assert value("sensitivity-erase", seen(after, original=before)) == pytest.approx(0.7)
    assert value("sensitivity-keep", seen(after, "keep", original=before)) == pytest.approx(0.7)
    assert value("sensitivity-erase", seen(after)) is None
    assert metric("sensitivity-erase").higher_is_better and metric("sensitivity-keep").higher_is_better is False


def test_e_minus_u() -> None:
    """LPIPS d is the mean over erased less the mean over unrelated pictures, however many there are of each."""
    from editkit.evaluation.metrics.change import LPIPS

    class Ruler:
        name = "ruler"

        def distances(self, first: list[Image.Image], second: list[Image.Image]) -> list[float]:
            return [float(np.asarray(a).mean() - np.asarray(b).mean()) for a, b in zip(first, second, strict=True)]

    class Placed(Observation):
        def picture(self) -> Image.Image:
            return Image.new("L", (1, 1), 10 * len(self.label))

        def original_picture(self) -> Image.Image:
            return Image.new("L", (1, 1), 0)

    some = [Placed("p", "a" * n, role, (), Detection(), Path()) for n, role in ((3, "erase"), (1, "keep"), (2, "keep"))]
    pictures = Pictures.of([each.label for each in some], [each.role for each in some], ["p", "q", "r"], [0, 1, 2])
    ruler: Any = Ruler()
    metrics = {which: LPIPS(which).holding(lpips=ruler) for which in "eud"}
    values = {which: estimate(lpips, lpips.measure(some), pictures).value for which, lpips in metrics.items()}
    assert values == {"e": 30.0, "u": 15.0, "d": 15.0}
    assert [metrics[which].higher_is_better for which in "eud"] == [True, False, True]


def test_unknown_metrics_list_the_known() -> None:
    with pytest.raises(
        EditkitError, match=r"'psr1': did you mean psr\? expected one of .*, esr-K, .*ner-PROTOCOL-THRESH"
    ):
        metric("psr1")
    with pytest.raises(
        EditkitError, match=r"expected a value that \[debias.wanted\] of the suite names \(woman, man\)"
    ):
        metric("share-child", WANTED)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("esr", "metric 'esr': expected esr-K"),
        ("esr-0", "metric 'esr-0', K: expected a whole number of at least 1, got 0; it is written esr-K"),
        ("esr-5-3", "metric 'esr-5-3', K: expected a whole number, got '5-3'"),
        ("lpips-x", "metric 'lpips-x', WHICH: must be one of e, u, d, but got 'x'"),
        ("ner-eight", "metric 'ner-eight': expected ner-PROTOCOL-THRESHOLD"),
        ("ner-eight-1", "metric ner-eight-1: expected a threshold from 0 to below 1, got 1"),
        ("efficacy-", r"metric 'efficacy-', BY: must be one of clip, seen, but got ''; it is written efficacy\[-BY\]"),
    ],
)
def test_a_name_that_its_component_cannot_have_says_which_part(name: str, message: str) -> None:
    with pytest.raises(EditkitError, match=message):
        check_metric(name, TargetShares())


@pytest.mark.parametrize(
    "name",
    ["esr-5", "psr-10", "subject-1", "ner-eight-0.35", "ner-parts-0", "sensitivity-keep", "clip-score-erase", "lpips-d",
     "fid", "fid-emoji", "efficacy", "specificity-seen", "share-dark-skinned", "deviation-dark-skinned"],
)  # fmt: skip
def test_a_name_and_its_metric_say_the_same(name: str) -> None:
    assert check_metric(name, TargetShares("tone", {"dark-skinned": 0.5})).name == name


def test_a_metric_holds_its_options_alone() -> None:
    assert metric("esr-5") == ESR(k=5) and ESR(k=5) != ESR(k=1)
    assert weight_names() == ["clip", "inception", "lpips", "lpips-linear"]


def test_every_metric_says_what_it_is() -> None:
    for each in describe("metrics"):
        assert each.summary and "cannot be loaded" not in each.summary, each.name
        assert all(known.help for known in each.options), each.name


def test_weights_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name, file in (("clip-score-keep", "clip-vit-large-patch14"), ("lpips-e", "alexnet-owt"), ("fid", "inception")):
        with pytest.raises(EditkitError, match=rf"{tmp_path}.*{file}"):
            metric(name)


def test_a_difference_takes_pairs_alone() -> None:
    pictures = Pictures.of(["a"] * 4, ["erase"] * 4, list("pqrs"), [0] * 4)
    compared = difference(metric("esr-1"), [0.0, 0.0, None, 1.0], [1.0, 1.0, 1.0, None], pictures)
    assert compared is not None and compared["difference"]["count"] == 2
    assert compared["mcnemar"] == {"only_first": 0, "only_second": 2, "p": 0.5}
    assert difference(metric("esr-1"), [None, 0.0], [1.0, None], pictures) is None


def test_files_that_are_no_pictures_are_errors_in_their_place(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    names = ["good.png", "cut.png", "missing.png", "empty.png", "good.png"]
    detections = detect_files(NoDetector(), [tmp_path / name for name in names])
    assert [detection.error is None for detection in detections] == [True, False, False, False, True]
    assert "missing.png cannot be read: FileNotFoundError" in str(detections[2].error)


def test_a_picture_is_named_by_case_and_seed() -> None:
    assert PictureCase("00012", "p", 7).file == "00012_7.png"
    assert isinstance(
        Estimate.from_dict({"value": None, "low": None, "high": None, "count": 0, "clusters": 0}), Estimate
    )
