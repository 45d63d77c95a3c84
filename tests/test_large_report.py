"""A report and a grid of pictures as large as people's models draw: thumbnails in the page, files beside it."""

from __future__ import annotations

import base64
import gc
import io
import json
import re
import weakref
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from editkit.drawing import grid as grids
from editkit.drawing.generate import compare_grid, variants_grid
from editkit.drawing.grid import MOST_PIXELS, MOST_SIDE, Sheet, size_in_grid
from editkit.drawing.sampler import Job, jobs
from editkit.emoji.profile import PROFILE
from editkit.evaluation.detectors.judge import load_judge
from editkit.report.compare import write_report
from editkit.report.comparison import LARGE_AT_ONCE, Comparison, judged
from editkit.report.drawn import INSIDE_UP_TO, Drawn
from editkit.report.page import file_size
from tests.cases import forall
from tests.discs import SIZE, disc_picture
from tests.test_report import Page


@pytest.fixture(scope="module")
def page(large_report: tuple[Path, Comparison]) -> Page:
    return Page((large_report[0] / "index.html").read_text(encoding="utf-8"))


def linked(page: Page) -> dict[str, str]:
    """Id of a thumbnail → the file that a click on it opens."""
    found, address = {}, None
    for tag, attributes in page.tags:
        if tag == "a":
            address = attributes.get("href")
        elif tag == "img" and address is not None and address.startswith("pictures/") and attributes.get("id"):
            found[str(attributes["id"])] = unquote(address)
    return {name: file for name, file in found.items() if name[0] == "p"}


def stored(picture: dict[str, str | None]) -> Image.Image:
    """What is in the page itself."""
    return Image.open(io.BytesIO(base64.b64decode(str(picture["src"]).partition("base64,")[2])))


def test_every_picture_is_a_file_that_its_thumbnail_links_to(large_report: tuple[Path, Comparison], page: Page) -> None:
    out, made = large_report
    links = linked(page)
    assert len(links) == len(made.pictures) == 3 * 2 * 3
    assert sorted(links.values()) == sorted(f"pictures/{path.name}" for path in (out / "pictures").iterdir())
    for name, file in links.items():
        p, s, n = (int(part) for part in name[1:].split("-"))
        expected = disc_picture(Job(made.prompts[p], made.seeds[s], n))
        with Image.open(out / file) as whole:
            assert np.array_equal(np.asarray(whole), np.asarray(expected)), name
    listed = json.loads((out / "report.json").read_text(encoding="utf-8"))["pictures"]
    assert sorted(entry["file"] for entry in listed) == sorted(links.values())


def test_thumbnails_say_how_large_they_are(page: Page) -> None:
    cells = [picture for picture in page.all("img") if picture.get("data-prompt")]
    assert len(cells) == 3 * 2 * 3 + 3 * 2 * 2
    for cell in cells:
        with stored(cell) as picture:
            assert (cell["width"], cell["height"]) == tuple(str(side) for side in picture.size)
            assert picture.format == "WEBP" and picture.width * SIZE[1] == picture.height * SIZE[0]
        assert cell["loading"] == "lazy" and cell["decoding"] == "async" and cell["alt"]


def one_seed(made: Comparison, out: Path, size: tuple[int, int]) -> Comparison:
    """The first prompt and seed alone, in pictures of another size."""
    drawn = Drawn([variant.name for variant in made.variants], out)
    for job in jobs(made.prompts[:1], made.seeds[:1], len(made.variants)):
        drawn.add(job, disc_picture(job, size))
    return replace(made, pictures=drawn, prompts=made.prompts[:1], seeds=made.seeds[:1])


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_page_is_small_and_does_not_grow_with_the_pictures(
    large_report: tuple[Path, Comparison], tmp_path: Path
) -> None:
    out, made = large_report
    assert (out / "index.html").stat().st_size < bytes_of(out / "pictures") / 10
    for name, size in (("small", (512, 384)), ("large", (1024, 768))):
        write_report(one_seed(made, tmp_path / name, size), tmp_path / name, ["editkit"])
    small, large = tmp_path / "small", tmp_path / "large"
    assert bytes_of(large / "pictures") > 3 * bytes_of(small / "pictures")
    assert (large / "index.html").stat().st_size < 1.05 * (small / "index.html").stat().st_size


def test_sizes_that_the_page_states_are_those_of_the_files(
    large_report: tuple[Path, Comparison], report: tuple[Path, Comparison], page: Page
) -> None:
    out = large_report[0]
    said = re.search(
        r"PNG files of 512 × 384 pixels in the folder pictures, (.*?) together\. This page, (.*?),", page.text
    )
    assert said is not None
    assert said.groups() == (file_size(bytes_of(out / "pictures")), file_size((out / "index.html").stat().st_size))
    assert "18 pictures" in page.text
    small = (report[0] / "index.html").read_text(encoding="utf-8")
    assert f"are in this page: {file_size(len(small.encode()))}." in small


def test_nothing_but_the_pictures_is_loaded(large_report: tuple[Path, Comparison], page: Page) -> None:
    html = (large_report[0] / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\((?!data:|#heat\))", html)
    assert page.open == []
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "poster", "action"):
            address = attributes.get(name) or "#"
            beside = tag == "a" and address.startswith("pictures/")
            assert beside or address.startswith(("data:", "#")), f"<{tag} {name}={address[:60]}>"
    assert sorted(path.name for path in large_report[0].iterdir()) == [
        "grid.png",
        "index.html",
        "pictures",
        "report.json",
    ]
    assert [path.name for path in large_report[0].parent.iterdir()] == ["out"], "no hidden folder is left"


def test_a_report_of_small_pictures_stays_one_file(report: tuple[Path, Comparison]) -> None:
    html = (report[0] / "index.html").read_text(encoding="utf-8")
    assert "<dialog" not in html and "large" not in html.split("<style>")[1].split("</style>")[0]
    assert "img-src data:; style-src" in html and not report[1].pictures.files
    cells = [picture for picture in Page(html).all("img") if picture.get("data-prompt")]
    for cell in cells[:4]:
        with stored(cell) as picture:
            assert picture.format == "PNG" and picture.size == (64, 64)


def test_large_pictures_are_not_kept_in_memory(tmp_path: Path) -> None:
    drawn = Drawn(["base"], tmp_path / "not-there-yet" / "r")
    kept = []
    for job in jobs(["a church/../😀", "a dog"], [0, 1]):
        picture = disc_picture(job)
        drawn.add(job, picture)
        kept.append(weakref.ref(picture))
        assert drawn.files[job].is_file() and drawn.files[job].parent.parent == tmp_path
        del picture
    gc.collect()
    assert [each() for each in kept] == [None] * 4
    assert len({file.name for file in drawn.files.values()}) == len(drawn) == 4
    for job in drawn:
        assert np.array_equal(np.asarray(drawn[job]), np.asarray(disc_picture(job)))
    del drawn
    gc.collect()
    assert not list(tmp_path.iterdir()), "the files go with what holds them"


def test_large_pictures_are_judged_in_parts_as_if_at_once(tmp_path: Path) -> None:
    judge, drawn = load_judge(PROFILE), Drawn(["base", "one", "two"], tmp_path / "r")
    assert judge is not None
    wanted = jobs(["a dog"], list(range(LARGE_AT_ONCE // 3 + 2)), 3)
    for job in wanted:
        drawn.add(job, disc_picture(job, (300, 300)))
    seen = judged(judge, drawn)
    assert len(seen) > LARGE_AT_ONCE and list(seen) == wanted
    at_once = judge.detect([disc_picture(job, (300, 300)) for job in wanted])
    assert [seen[job].labels[:2] for job in wanted] == [each.labels[:2] for each in at_once]
    assert [seen[job].scores[0] for job in wanted] == pytest.approx([each.scores[0] for each in at_once], abs=1e-6)
    assert len({round(each.scores[0], 5) for each in at_once}) > 20, "pictures are told apart"


def test_pictures_are_small_up_to_a_size(tmp_path: Path) -> None:
    for width, inside in ((INSIDE_UP_TO, True), (INSIDE_UP_TO + 1, False)):
        drawn = Drawn(["base"], tmp_path / "r")
        drawn.add(Job("a dog", 0), Image.new("RGB", (width, 64)))
        assert (not drawn.files) == inside and drawn.size == drawn[Job("a dog", 0)].size == (width, 64)


def test_a_report_that_was_written_can_be_written_again(large_report: tuple[Path, Comparison], tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    made = one_seed(large_report[1], first, (300, 200))
    for out, force in ((first, False), (again, False), (again, True)):
        write_report(made, out, ["editkit"], force)
        assert all(file.parent == out / "pictures" and file.is_file() for file in made.pictures.files.values())
    names = [sorted(path.name for path in (out / "pictures").iterdir()) for out in (first, again)]
    assert names[0] == names[1] and len(names[0]) == 3


@forall(
    st.tuples(st.integers(1, 2048), st.integers(1, 2048)),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_a_grid_is_never_too_large_and_reduced_only_then(size: tuple[int, int], down: int, across: int) -> None:
    width, height = size_in_grid(size, down, across)
    assert (across * width <= MOST_SIDE and down * height <= MOST_SIDE) or (width, height) == (1, 1)
    assert down * across * width * height <= MOST_PIXELS
    fits = down * across * size[0] * size[1] <= MOST_PIXELS and max(across * size[0], down * size[1]) <= MOST_SIDE
    assert ((width, height) == size) == fits
    assert abs(width / size[0] - height / size[1]) <= 1 / min(size), "the shape stays"


def test_a_grid_holds_the_pictures_as_they_are_where_they_fit() -> None:
    prompts, variants, seeds = ["a church", "a very long prompt " * 12], ["base", "edit"], [3, 5]
    made = ((job, disc_picture(job)) for job in jobs(prompts, seeds, 2))
    sheet = variants_grid(made, prompts, variants, seeds)
    whole = np.asarray(sheet.picture)
    assert not sheet.is_reduced and sheet.cell == SIZE
    right, top, gap = whole.shape[1] - 12, whole.shape[0] - 12 - 4 * SIZE[1] - 3 * 4, 4
    for row, (prompt, n) in enumerate((prompt, n) for prompt in prompts for n in range(2)):
        for column, seed in enumerate(seeds):
            x, y = right - (2 - column) * SIZE[0] - (1 - column) * gap, top + row * (SIZE[1] + gap)
            cell = whole[y : y + SIZE[1], x : x + SIZE[0]]
            assert np.array_equal(cell, np.asarray(disc_picture(Job(prompt, seed, n)))), (row, column)
    names = whole[:, : right - 2 * SIZE[0] - gap]
    assert (names[:, -6:] == 255).all() and (names[:, :6] == 255).all(), "names end before the pictures"
    for row in range(4):
        band = names[top + row * (SIZE[1] + gap) :][: SIZE[1]]
        assert (band < 128).any(), "every row has its name"
        assert (band[:8] == 255).all() and (band[-8:] == 255).all(), "which stays in its row"


def test_a_grid_of_reduced_pictures_says_so(tmp_path: Path) -> None:
    sheet = Sheet((1024, 1024), 20, 8)
    assert sheet.is_reduced and "1024 × 1024 pixels are 500 × 500 in the grid" in sheet.says_reduced
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "MOST_PIXELS", 2 * 40 * 40)
        with pytest.warns(UserWarning, match="64 × 64 pixels are 40 × 40 in the grid"):
            shown = compare_grid("emoji", ["base"], ["a church"], "0-1", tmp_path / "g.png", "cpu", steps=1)
    with Image.open(tmp_path / "g.png") as written:
        assert written.size == shown.size and shown.height < 100
