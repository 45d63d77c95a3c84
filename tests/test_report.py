"""The report: one file that needs nothing, whose numbers are those of the library."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editkit.drawing.sampler import Job
from editkit.edits.method import Options
from editkit.emoji.profile import PROFILE
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection
from editkit.model.editable import open_model
from editkit.report.compare import compare_report, write_report
from editkit.report.comparison import Comparison, make_comparison
from editkit.report.heat import colours, difference, heat_map
from editkit.report.shares import count_deltas, count_shares, erased_labels
from editkit.variants.edit_file import save_edit
from tests.cli import run

VOID = {"meta", "link", "img", "input", "br", "rect", "line", "circle", "polyline", "path", "polygon"}


class Page(HTMLParser):
    """Tags with their attributes, and whether every tag is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(report: tuple[Path, Comparison]) -> Page:
    return Page((report[0] / "index.html").read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_elsewhere(report: tuple[Path, Comparison], page: Page) -> None:
    html = (report[0] / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\((?!data:)", html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "poster", "action"):
            address = attributes.get(name) or "#"
            assert address.startswith(("data:", "#")), f"<{tag} {name}={address[:60]}>"
    assert sorted(path.name for path in report[0].iterdir()) == ["grid.png", "index.html", "report.json"]


def test_page_is_well_formed_and_says_what_it_shows(page: Page) -> None:
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = [picture for picture in page.all("img") if picture.get("src")]
    assert len(pictures) == 3 * 3 * 3 + 3 * 3 * 2, "every picture once, and a difference for each edit"
    assert all(picture["alt"] for picture in pictures)
    assert sum("the judge sees" in (picture["alt"] or "") for picture in pictures) == 27
    charts = [chart for chart in page.all("svg")]
    assert len(charts) == 3 and all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert page.all("html")[0]["lang"] == "en" and "width=device-width" in str(page.all("meta")[1]["content"])


def test_prompts_are_text_not_markup(report: tuple[Path, Comparison], page: Page) -> None:
    assert page.all("b")[0].get("style"), "the only <b> are the marks of the intervals"
    assert all("style" in bold for bold in page.all("b"))
    assert 'a <b>dog</b> & "co" \'' in page.text
    hostile = (report[0] / "index.html").read_text(encoding="utf-8")
    assert "</b> &" not in hostile.split('id="data">')[1].split("</script>")[0]


def test_numbers_are_those_of_the_records(report: tuple[Path, Comparison]) -> None:
    saved = json.loads((report[0] / "report.json").read_text())
    for variant in saved["variants"][1:]:
        words = variant["record"]["figures"]["worst_words"]
        assert variant["damage"] | dict(words) == pytest.approx(variant["damage"], rel=1e-4), variant["name"]
        assert next(iter(variant["damage"])) == words[0][0]
        assert len(variant["edit_sha256"]) == 64
    assert saved["variants"][0]["damage"] is None
    assert saved["sampling"] == {"steps": 6, "guidance": 3.0, "negative": "", "scheduler": "ddim", "size": None}
    with Image.open(report[0] / "grid.png") as grid:
        assert grid.size[1] > 9 * 128


def test_page_states_hyper_parameters_hashes_and_versions(report: tuple[Path, Comparison], page: Page) -> None:
    for variant in report[1].variants[1:]:
        for said in (variant.sha256, variant.record["projections_sha256"], variant.record["options"]["protect"]):
            assert str(said) in page.text
    for said in ("torch 2.", "diffusers", "ddim", "0, 1, 2", "--seeds 0-2", "church → nothing", "church → average"):
        assert said in page.text, said


def seeing(report: tuple[Path, Comparison], seen: dict[tuple[str, int], str]) -> Comparison:
    """The same comparison with a judge that sees what `seen` says of a prompt and variant, else a pizza."""

    def says(job: Job) -> Detection:
        label = seen.get((job.prompt, job.variant), "pizza")
        return Detection((label, "pizza" if label != "pizza" else "dog"), (0.75, 0.25))

    made = report[1]
    return Comparison(**{**vars(made), "detections": {job: says(job) for job in made.pictures}})


def test_shares_count_erased_and_kept_prompts_apart(report: tuple[Path, Comparison]) -> None:
    mosque, dog = "a mosque", 'a <b>dog</b> & "co" \''
    seen = {
        ("a church", 0): "church",
        (dog, 0): "dog",
        (mosque, 0): "mosque",
        (dog, 1): "dog",
        ("a church", 2): "church",
    }
    base, uce, prior = count_shares(seeing(report, seen))
    assert (base.esr1.value, base.esr1.count, base.psr1.value, base.psr1.count) == (0, 3, 1, 6)
    assert (uce.esr1.value, uce.psr1.value, uce.psr5.value) == (1, 0.5, 0.5)
    assert (prior.esr1.value, prior.psr1.value, prior.psr5.value) == (0, 0, 0.5), "the judge's second guess is a dog"
    assert base.esr1.high == pytest.approx(0.56, abs=0.01), "Wilson's interval of none of three"
    deltas = {delta.word: delta.estimate for delta in count_deltas(seeing(report, seen))[1]}
    assert deltas["a church"].value == deltas["a church"].low == 0.75 and deltas[dog].value == 0


def test_an_edit_to_the_same_thing_erases_nothing() -> None:
    assert erased_labels({"concepts": ["a red rose"], "guides": ["a blue rose"]}, PROFILE) == set()
    assert erased_labels({"concepts": ["a rose"], "guides": ["a tulip"]}, PROFILE) == {"rose"}
    assert "dagger" in erased_labels({"concepts": ["weapon"], "guides": ["average"]}, PROFILE)


def test_heat_maps() -> None:
    black, white = Image.new("RGB", (4, 3)), Image.new("RGB", (4, 3), "white")
    assert difference(black, black).max() == 0 and difference(black, white).min() == 1
    assert np.asarray(heat_map(difference(black, white)))[0, 0].tolist() == colours()[255].tolist()
    assert np.asarray(heat_map(difference(black, black)))[0, 0].tolist() == colours()[0].tolist()
    light = colours() @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light) > -0.8).all(), "lightness rises, but for rounding"
    with pytest.raises(EditkitError, match="cannot be compared; draw them alike"):
        difference(black, Image.new("RGB", (5, 3)))


def test_what_a_report_needs(report: tuple[Path, Comparison], tmp_path: Path) -> None:
    made = report[1]
    with pytest.raises(EditkitError, match="at least two variants, got 1; add `base` or an edit file"):
        compare_report("emoji", ["base"], ["a dog"], "0", tmp_path / "one")
    with pytest.raises(EditkitError, match="no prompt given"):
        make_comparison(made.model, made.variants, [], [0], made.sampling)
    assert not any(tmp_path.iterdir())


def test_a_model_without_a_judge(tiny_sd: Path, tmp_path: Path) -> None:
    """Pictures, damage and figures are shown; nothing is said of what a judge sees."""
    model = open_model(tiny_sd)
    edit = erase(model, ["van gogh"], options=Options("uce", protect="none"))
    save_edit(edit, tmp_path / "e.safetensors")
    edits, words = ["base", str(tmp_path / "e.safetensors")], ["monet", "dog", "tree", "house"]
    made = compare_report(tiny_sd, edits, ["a van gogh", "a dog"], "0", tmp_path / "r", vocabulary=words, steps=2)
    assert made.detections == {} and made.named[1] is not None and made.named[1].words == ("van gogh", "dog")
    page = Page((tmp_path / "r" / "index.html").read_text(encoding="utf-8"))
    assert "ESR-1" not in page.text and "the judge" not in page.text and "Damage by concept" in page.text
    assert len(page.all("svg")) == 2
    assert json.loads((tmp_path / "r" / "report.json").read_text())["variants"][1]["shares"] is None


def test_only_reports_are_replaced(report: tuple[Path, Comparison], tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_report(report[1], out, ["editkit"])
    with pytest.raises(EditkitError, match="exists and is not overwritten unasked"):
        write_report(report[1], out, ["editkit"])
    (out / "index.html").write_text("old")
    write_report(report[1], out, ["editkit"], force=True)
    assert "<!doctype html>" in (out / "index.html").read_text()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(EditkitError, match=r"holds thesis\.txt"):
        write_report(report[1], out, ["editkit"], force=True)
    (out / "report.json").unlink()
    with pytest.raises(EditkitError, match=r"no report \(no report\.json\) is not replaced"):
        write_report(report[1], out, ["editkit"], force=True)


def test_command_line(report: tuple[Path, Comparison], tmp_path: Path) -> None:
    edit: Any = report[0].parent / "church-uce.safetensors"
    words = ["compare", "base", edit, "--prompt", "a church", "--seeds", "0", "--steps", "2"]
    assert "report: r/index.html" in run(*words, "--out", "r", cwd=tmp_path)
    assert "picture: g.png" in run(*words, "--out", "g.png", cwd=tmp_path)
    assert "expected a picture file (.png, .jpg, .webp), got '.gif'" in run(
        *words, "--out", "g.gif", cwd=tmp_path, code=1
    )
    assert "no edit for model emoji in this folder" in run("compare", "--out", "x", cwd=tmp_path, code=1)
    assert "--concept goes with --sweep" in run("compare", "--concept", "dog", "--out", "x", cwd=tmp_path, code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.png", "r"]
