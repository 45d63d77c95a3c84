"""`editkit moderate`: part of the way of the whole edit, and how much is still seen."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import editkit
from editkit.edits.method import Options
from editkit.emoji.moderate_table import as_markdown
from editkit.erasure.presets.preset_file import MODERATE
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection
from editkit.evaluation.statistics.intervals import part_interval
from editkit.model.editable import EditableModel, open_model
from tests.cli import run

PLAIN = Options("uce", protect="none")
WORDS = ["mosque", "dog", "rose"]


@pytest.fixture(scope="module")
def model() -> EditableModel:
    return open_model("emoji")


def test_every_key_and_value_goes_the_planned_part_of_the_way(model: EditableModel) -> None:
    whole = editkit.erase(model, ["church"], options=PLAIN, vocabulary=WORDS)
    part = editkit.moderate(model, ["church"], 0.3, options=PLAIN, vocabulary=WORDS, pictures=0)
    rows = model.encoder.encode(["a church"])[0]
    assert torch.allclose(part.map.embeddings(rows) - rows, 0.3 * (whole.map.embeddings(rows) - rows), atol=1e-12)
    assert part.record["scale"] == 0.3 and part.record["options"] == whole.record["options"]
    assert part.record["moderated"] == {"strength": 0.3, "by": "map", "planned": 0.3, "judge": None}


def test_the_judge_of_the_model_counts_unedited_moderated_and_whole(model: EditableModel, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join(WORDS))
    line = ["moderate", "--concept", "church", "--method", "uce", "--protect", "none", "--vocabulary", words]
    said = run(*line, "--strength", "0.5", "--pictures", "3", "--steps", "2", cwd=tmp_path)
    assert "planned: keys and values of the concept go 0.5 of the way" in said and "measured by emoji-judge" in said
    record = editkit.info(tmp_path / "church-uce-moderated.safetensors")
    told = record["moderated"]
    assert (told["judge"], told["seeds"], told["errors"], record["scale"]) == ("emoji-judge", [600, 603], 0, 0.5)
    for name in ("unedited", "moderated", "whole", "part"):
        assert {*told[name]} == {"value", "low", "high", "count", "clusters"} and told[name]["count"] == 3
    shown = run("info", "church-uce-moderated.safetensors", cwd=tmp_path)
    assert f"{told['moderated']['value']:.1%} (" in shown and "of this edit's" in said


def test_without_a_judge_it_says_that_nothing_was_measured(tiny_sd: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join(WORDS))
    line = ["moderate", "--concept", "church", "--method", "uce", "--protect", "none", "--model", tiny_sd]
    said = run(*line, "--vocabulary", words, "--unchecked", cwd=tmp_path)
    assert "measured: nothing, since nobody judged pictures; give --detector" in said
    refused = run(*line, "--by", "share", "--out", "x.safetensors", cwd=tmp_path, code=1)
    assert "--by share: nobody counts the pictures of this model" in refused


class Sees:
    """Sees a church where a picture is lighter than a threshold of its own: the more of the edit, the fewer."""

    name = "sees"

    def detect(self, pictures: list[Any]) -> list[Detection]:
        light = [float(np.asarray(picture).mean()) for picture in pictures]
        return [
            Detection(("church", "none"), (0.5, 0.5)) if x > 128 else Detection(("none", "church"), (0.5, 0.5))
            for x in light
        ]


def test_by_share_the_part_is_searched_for(model: EditableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is replaced by pictures that are as dark as the edit is far along, each seed a little earlier."""
    from PIL import Image

    from editkit.evaluation import moderate as module

    def drawn(denoiser: Any, wanted: Any, variants: Any, sampling: Any) -> Any:
        for job in wanted:
            edit = variants[job.variant]
            part = 0.0 if edit is None else edit.record.get("scale", 1.0)
            goes = 0.6 + 0.2 * (job.seed % 10) / 10  # a seed's church goes at 0.6 to 0.78
            yield job, Image.new("L", (4, 4), 200 if part < goes else 60).convert("RGB")

    monkeypatch.setattr(module, "draw", drawn)
    monkeypatch.setattr(module, "chosen_judge", lambda profile, name: Sees())
    given: dict[str, Any] = {"options": PLAIN, "vocabulary": WORDS, "by": "share", "pictures": 10, "detector": "sees"}
    half = editkit.moderate(model, ["church"], 0.5, **given)
    told = half.record["moderated"]
    assert 0.66 <= told["planned"] <= 0.72 and half.record["scale"] == told["planned"]
    assert told["unedited"]["value"] == 1 and told["whole"]["value"] == 0
    assert told["part"]["value"] == pytest.approx(0.5, abs=0.11) and told["part"]["low"] < 0.5 < told["part"]["high"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strength": 1.5}, "--strength: expected a number from 0 .no edit. to 1 .the whole edit., got 1.5"),
        ({"strength": float("nan")}, "--strength: .*got nan"),
        ({"by": "half"}, "--by: must be one of map, share, but got 'half'"),
        ({"pictures": -1}, "--pictures: expected at least 0, got -1"),
        ({"detector": "nudenett"}, "detector 'nudenett': did you mean nudenet"),
        ({"preset": "nudty"}, "did you mean nudity"),
    ],
)
def test_everything_is_checked_first(given: dict[str, Any], message: str, model: EditableModel) -> None:
    with pytest.raises(EditkitError, match=message):
        editkit.moderate(model, ["church"], **given)


def test_what_a_preset_says_of_moderating_are_parameters_of_it(model: EditableModel, tmp_path: Path) -> None:
    assert {*MODERATE} <= {*inspect.signature(editkit.moderate).parameters}
    mine = tmp_path / "mine.toml"
    mine.write_text('concept = ["church"]\n[methods.rece]\nprotect = "none"\n[moderate]\nstrength = 0.2\n')
    given: dict[str, Any] = {"preset": mine, "vocabulary": WORDS, "pictures": 0}
    assert editkit.moderate(model, **given).record["scale"] == 0.2
    other = editkit.moderate(model, strength=0.7, **given)
    assert other.record["scale"] == 0.7 and other.record["preset"]["name"] == "mine"


def test_a_part_of_the_way_has_an_interval_that_pairs_its_pictures() -> None:
    rng = np.random.default_rng(0)
    before, after = np.ones(200), np.zeros(200)
    middle = (rng.random(200) < 0.3).astype(float)
    part = part_interval(before.tolist(), middle.tolist(), after.tolist())
    assert part.value == pytest.approx(1 - middle.mean())
    spread = 1.96 * middle.std() / 200**0.5
    assert part.low == pytest.approx(part.value - spread, abs=0.02)
    assert part.high == pytest.approx(part.value + spread, abs=0.02)
    certain = part_interval([1] * 20, [0] * 20, [0] * 20)
    assert certain.value == 1 and certain.low < 0.9 and certain.high > 1
    nowhere = part_interval([1, 1], [1, 0], [1, 1])
    assert nowhere.value != nowhere.value and nowhere.count == 2


def test_the_findings_state_what_was_measured() -> None:
    root = Path(__file__).parent.parent
    results = json.loads((root / "tests" / "bench" / "moderate.json").read_text())
    assert as_markdown(results).strip() in (root / "docs" / "findings.md").read_text(encoding="utf-8")
