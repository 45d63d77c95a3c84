"""A report of large pictures in a real browser, opened as a file: a click opens the whole picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editkit.drawing.sampler import Job
from editkit.report.comparison import Comparison
from editkit.report.heat import difference, heat_map
from tests.chromium import browser, pixels, requests
from tests.discs import SIZE
from tests.test_report_browser import by_id, choose, drawn, shows

pytestmark = pytest.mark.slow
Opened = tuple[Any, Comparison]
WIDTH = "return document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def opened(large_report: tuple[Path, Comparison], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        driver.get((large_report[0] / "index.html").as_uri())
        yield driver, large_report[1]
        beside = large_report[0].as_uri()
        addresses = requests(driver)
        assert addresses and all(address.startswith((beside, "data:")) for address in addresses), addresses
        assert driver.get_log("browser") == [], "console messages"


@pytest.fixture
def page(opened: Opened) -> Opened:
    """The page as it is when it is opened."""
    driver, made = opened
    driver.refresh()
    return driver, made


def focused(driver: Any) -> Any:
    return driver.switch_to.active_element


def loaded(driver: Any, name: str) -> Any:
    """An image, once it shows what it was told to show."""
    driver.execute_async_script(
        "const one = document.getElementById(arguments[0]), done = arguments[1];"
        "one.decode().then(() => requestAnimationFrame(() => requestAnimationFrame(done)), done)",
        name,
    )
    return by_id(driver, name)


def stage(driver: Any) -> np.ndarray:
    for side in "ab":
        loaded(driver, f"stage-{side}")
    return pixels(by_id(driver, "stage"))


def test_click_opens_the_whole_picture_and_escape_closes_it(page: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    driver, made = page
    thumbnail = by_id(driver, "p1-1-2")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", thumbnail)
    before = driver.execute_script("return window.scrollY")
    thumbnail.click()
    picture = loaded(driver, "full-picture")
    assert driver.execute_script("return document.getElementById('full').matches(':modal')")
    assert picture.get_property("naturalWidth") == SIZE[0] and picture.size["width"] == SIZE[0]
    expected = np.asarray(drawn(made, 2, 1, 1)).astype(np.int64)
    assert np.abs(pixels(picture) - expected).max() <= 1, "the file itself, pixel for pixel"
    file = made.pictures.files[Job(made.prompts[1], made.seeds[1], 2)]
    assert by_id(driver, "full-file").get_attribute("href") == file.as_uri()
    assert by_id(driver, "full-says").text == f"“{made.prompts[1]}”, seed 1, church-prior"
    focused(driver).send_keys(Keys.ESCAPE)
    assert not by_id(driver, "full").is_displayed()
    assert driver.execute_script("return document.activeElement.querySelector('img').id") == "p1-1-2"
    assert driver.execute_script("return window.scrollY") == before


def test_keyboard_opens_a_picture_and_turns_to_the_others(page: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    driver, made = page
    link = driver.execute_script("return document.getElementById('p0-0-0').closest('a')")
    driver.execute_script("arguments[0].focus()", link)
    link.send_keys(Keys.ENTER)
    places = [(Keys.ARROW_DOWN, 1, 0), (Keys.ARROW_RIGHT, 1, 1), (Keys.ARROW_UP, 0, 1), (Keys.ARROW_UP, 2, 1)]
    for key, variant, seed in [*places, (Keys.ARROW_RIGHT, 2, 0), ("j", 2, 0)]:
        focused(driver).send_keys(key)
        file = made.pictures.files[Job(made.prompts[0], made.seeds[seed], variant)]
        assert loaded(driver, "full-picture").get_attribute("src") == file.as_uri()
    driver.find_element("css selector", "#full .close").click()
    assert not by_id(driver, "full").is_displayed()
    assert by_id(driver, "where").text == "“a church”, seed 0", "the viewer follows"


def test_slider_and_difference_show_whole_pictures(page: Opened) -> None:
    driver, made = page
    by_id(driver, "viewer").location_once_scrolled_into_view  # noqa: B018
    assert by_id(driver, "stage").size == {"width": SIZE[0], "height": SIZE[1]}
    half = stage(driver)
    assert shows(half, drawn(made, 0), 0, 0.5) and shows(half, drawn(made, 1), 0.5, 1)
    assert not shows(half, drawn(made, 1), 0, 0.5), "the pictures differ, or this test could not fail"
    choose(driver, "difference")
    apart = difference(drawn(made, 0), drawn(made, 1))
    heat = heat_map(apart)
    seen = stage(driver)
    assert shows(seen, heat) and not shows(seen, Image.new("RGB", SIZE)), "drawn without reading the files"
    assert by_id(driver, "heat-says").text == f"mean {100 * apart.mean():.1f} %"


def test_a_seed_enlarges_the_viewer_and_closing_returns(page: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    driver, made = page
    seed = driver.find_element("css selector", ".seed[data-prompt='2'][data-seed='1']")
    driver.execute_script("arguments[0].scrollIntoView({block: 'start', behavior: 'instant'})", seed)
    before = driver.execute_script("return window.scrollY")
    seed.click()
    assert driver.execute_script("return document.getElementById('enlarged').matches(':modal')")
    box = by_id(driver, "stage").size
    assert box["width"] > 1.5 * SIZE[0] and abs(box["width"] / box["height"] - SIZE[0] / SIZE[1]) < 0.01
    small = Image.fromarray(stage(driver).astype(np.uint8)).resize(SIZE, Image.Resampling.BOX)
    left = np.asarray(small).astype(np.int64)[:300, : SIZE[0] // 2 - 20]
    apart = [np.abs(left - np.asarray(drawn(made, n, 2, 1))[:300, : SIZE[0] // 2 - 20]).mean() for n in range(2)]
    assert apart[0] < 8 < apart[1], apart
    focused(driver).send_keys(Keys.ESCAPE)
    assert not by_id(driver, "enlarged").is_displayed() and by_id(driver, "viewer").is_displayed()
    assert driver.execute_script("return window.scrollY") == before
    assert driver.execute_script("return document.activeElement") == seed


def test_a_difference_picture_opens_the_viewer(page: Opened) -> None:
    driver, _ = page
    heat = by_id(driver, "h1-0-2")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", heat)
    heat.click()
    assert driver.execute_script("return document.getElementById('enlarged').matches(':modal')")
    assert by_id(driver, "stage").get_attribute("data-mode") == "difference"
    assert by_id(driver, "heat-says").text == f"mean {heat.get_attribute('data-mean')} %"
    driver.find_element("css selector", "#enlarged .close").click()


def test_nothing_is_too_wide(large_report: tuple[Path, Comparison], tmp_path: Path) -> None:
    with browser(tmp_path, width=390, height=844) as driver:
        driver.get((large_report[0] / "index.html").as_uri())
        assert driver.execute_script(WIDTH) == 390
        assert by_id(driver, "stage").size["width"] > 340
        by_id(driver, "enlarge").click()
        for mode in ("slider", "pair", "difference"):
            choose(driver, mode)
            assert driver.execute_script("return document.getElementById('enlarged').scrollWidth") <= 390
            assert by_id(driver, "stage").size["width"] > 340
        driver.find_element("css selector", "#enlarged .close").click()
        driver.execute_script("document.getElementById('p0-0-0').click()")
        assert loaded(driver, "full-picture").size["width"] > 340
        assert driver.execute_script("return document.getElementById('full').scrollWidth") <= 390
