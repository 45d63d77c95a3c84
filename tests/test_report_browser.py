"""The report in a real browser: what the slider, blink, difference and theme draw, and that nothing is loaded."""

from __future__ import annotations

import time
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

pytestmark = pytest.mark.slow
Opened = tuple[Any, Comparison]
NEAR = 12
"""Largest difference of a colour, of 255, that rounding to the screen may make."""


@pytest.fixture(scope="module")
def opened(report: tuple[Path, Comparison], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        driver.get((report[0] / "index.html").as_uri())
        yield driver, report[1]
        addresses = requests(driver)
        assert addresses and all(address.startswith(("file://", "data:")) for address in addresses), addresses
        assert driver.get_log("browser") == [], "console messages"


@pytest.fixture
def page(opened: Opened) -> Opened:
    """The page as it is when it is opened."""
    driver, made = opened
    driver.refresh()
    driver.execute_script("document.getElementById('viewer').scrollIntoView({behavior: 'instant'})")
    return driver, made


def by_id(driver: Any, name: str) -> Any:
    return driver.find_element("id", name)


def choose(driver: Any, mode: str) -> None:
    driver.find_element("css selector", f"input[name=mode][value={mode}] + span").click()


def drawn(made: Comparison, variant: int, prompt: int = 0, seed: int = 0) -> Image.Image:
    return made.pictures[Job(made.prompts[prompt], made.seeds[seed], variant)]


def shows(stage: np.ndarray, picture: Image.Image, left: float = 0.0, right: float = 1.0) -> bool:
    """Whether the part of the stage from `left` to `right` shows that part of `picture`. The foot is under names."""
    height, width = stage.shape[:2]
    expected = np.asarray(picture.resize((width, height), Image.Resampling.NEAREST)).astype(np.int64)
    columns = slice(int(left * width) + 16, int(right * width) - 16)
    apart = np.abs(stage - expected)[16 : int(0.85 * height), columns].max(axis=2)
    return float((apart <= NEAR).mean()) > 0.97


def coarse_distance(stage: np.ndarray, picture: Image.Image) -> float:
    """Mean difference of colours where the scale is no whole number, so that pixels cannot be held against each other:
    over 12 × 12 cells, without the foot."""
    both = (Image.fromarray(stage.astype(np.uint8)), picture)
    a, b = (np.asarray(picture.resize((12, 12), Image.Resampling.BOX)).astype(np.int64)[1:10, 1:11] for picture in both)
    return float(np.abs(a - b).mean())


def press(driver: Any, key: str) -> None:
    driver.switch_to.active_element.send_keys(key)


def test_slider(page: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    driver, made = page
    stage, divider = by_id(driver, "stage"), by_id(driver, "divider")
    before, after = drawn(made, 0), drawn(made, 1)
    half = pixels(stage)
    assert shows(half, before, 0, 0.5) and shows(half, after, 0.5, 1)
    assert not shows(half, after, 0, 0.5), "the pictures differ, or this test could not fail"
    divider.send_keys(Keys.HOME)
    assert shows(pixels(stage), after, 0.06, 1)
    divider.send_keys(Keys.END)
    assert shows(pixels(stage), before, 0, 0.94)
    divider.send_keys(Keys.LEFT, Keys.LEFT)
    assert divider.get_attribute("value") == "98"
    assert divider.get_attribute("aria-valuetext") == "base 98 %, church-uce the rest"


def test_slider_follows_the_pointer(page: Opened) -> None:
    from selenium.webdriver import ActionChains

    driver, made = page
    stage = by_id(driver, "stage")
    quarter = -stage.size["width"] // 4
    ActionChains(driver).move_to_element(stage).click_and_hold().move_by_offset(quarter, 0).release().perform()
    assert abs(int(by_id(driver, "divider").get_attribute("value")) - 25) <= 1
    picture = pixels(stage)
    assert shows(picture, drawn(made, 0), 0, 0.25) and shows(picture, drawn(made, 1), 0.3, 1)


def test_any_two_variants(page: Opened) -> None:
    from selenium.webdriver.support.ui import Select

    driver, made = page
    Select(by_id(driver, "choose-a")).select_by_visible_text("church-prior")
    driver.find_element("css selector", ".seed[data-prompt='2'][data-seed='1']").click()
    picture = pixels(by_id(driver, "stage"))
    assert shows(picture, drawn(made, 2, 2, 1), 0, 0.5) and shows(picture, drawn(made, 1, 2, 1), 0.5, 1)
    by_id(driver, "swap").click()
    picture = pixels(by_id(driver, "stage"))
    assert shows(picture, drawn(made, 1, 2, 1), 0, 0.5) and shows(picture, drawn(made, 2, 2, 1), 0.5, 1)
    assert by_id(driver, "where").text == "“a mosque”, seed 1"
    assert "church-uce" in by_id(driver, "stage-a").get_attribute("alt")
    ringed = driver.find_elements("css selector", ".pictures img.on")
    assert sorted(element.get_attribute("id") for element in ringed) == ["p2-1-1", "p2-1-2"]


def test_blink(page: Opened) -> None:
    driver, made = page
    stage = by_id(driver, "stage")
    choose(driver, "blink")
    seen: dict[str, int] = {"a": 0, "b": 0}
    stop = time.monotonic() + 20
    while min(seen.values()) < 2 and time.monotonic() < stop:
        shown = stage.get_attribute("data-shown")
        picture = pixels(stage)
        if stage.get_attribute("data-shown") == shown:
            assert shows(picture, drawn(made, "ab".index(shown)))
            seen[shown] += 1
        time.sleep(0.1)
    assert min(seen.values()) >= 2, "both were shown, more than once"
    by_id(driver, "blink").click()
    shown = stage.get_attribute("data-shown")
    time.sleep(1.6)
    assert stage.get_attribute("data-shown") == shown, "paused"
    assert by_id(driver, "blink").text == "Blink"


def test_pair(page: Opened) -> None:
    driver, made = page
    choose(driver, "pair")
    sides = [pixels(by_id(driver, f"stage-{side}")) for side in "ab"]
    far = [[coarse_distance(side, drawn(made, n)) for n in (0, 1)] for side in sides]
    assert max(far[0][0], far[1][1]) < 6 < 25 < min(far[0][1], far[1][0]), far


def test_difference_is_that_of_the_library(page: Opened) -> None:
    driver, made = page
    choose(driver, "difference")
    script = (
        "const c = document.getElementById('stage-heat');"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    screen = np.array(driver.execute_script(script)).reshape(64, 64, 4)[:, :, :3]
    expected = np.asarray(heat_map(difference(drawn(made, 0), drawn(made, 1)))).astype(np.int64)
    assert np.abs(screen - expected).max() <= 4, "one step of the colours, where rounding differs"
    assert (screen == expected).mean() > 0.98
    assert shows(pixels(by_id(driver, "stage")), heat_map(difference(drawn(made, 0), drawn(made, 1))))
    average = 100 * difference(drawn(made, 0), drawn(made, 1)).mean()
    said = by_id(driver, "heat-says").text
    assert said.startswith("mean ") and abs(float(said.split()[1]) - average) < 0.1


def test_keyboard(page: Opened) -> None:
    driver, made = page
    body = driver.find_element("tag name", "body")
    body.send_keys("j")
    assert by_id(driver, "where").text == "“a church”, seed 1"
    body.send_keys("k", "k")
    assert by_id(driver, "where").text.endswith("mosque”, seed 2"), "it goes around"
    body.send_keys("s")
    assert driver.switch_to.active_element.get_attribute("id") == "divider"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert driver.execute_script(outline) == "solid", "focus is visible"
    press(driver, "d")
    assert by_id(driver, "stage").get_attribute("data-mode") == "difference"
    assert shows(pixels(by_id(driver, "stage")), heat_map(difference(drawn(made, 0, 2, 2), drawn(made, 1, 2, 2))))
    driver.find_element("css selector", ".keys summary").click()
    by_id(driver, "keys").click()
    press(driver, "p")
    assert by_id(driver, "stage").get_attribute("data-mode") == "difference", "shortcuts are off"


def ground(driver: Any) -> int:
    """Brightness of the page, 0 to 255, as drawn."""
    return int(pixels(driver.find_element("tag name", "h1"))[0, -1].mean())


def test_light_and_dark(page: Opened, report: tuple[Path, Comparison], tmp_path: Path) -> None:
    driver, _ = page
    assert ground(driver) > 240
    by_id(driver, "theme").click()
    assert ground(driver) < 40 and by_id(driver, "theme").text == "Light"
    by_id(driver, "theme").click()
    assert ground(driver) > 240
    with browser(tmp_path, dark=True) as other:
        other.get((report[0] / "index.html").as_uri())
        assert ground(other) < 40, "it follows the reader's settings"
        other.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert ground(other) > 240, "and is printed on white"
        assert not by_id(other, "viewer").is_displayed()


def test_phone(report: tuple[Path, Comparison], tmp_path: Path) -> None:
    with browser(tmp_path, width=390, height=844) as driver:
        driver.get((report[0] / "index.html").as_uri())
        assert driver.execute_script("return document.documentElement.scrollWidth") == 390
        small = (
            "return [...document.querySelectorAll('svg.chart')].map(c => 12 * c.clientWidth / c.viewBox.baseVal.width)"
        )
        assert min(driver.execute_script(small)) >= 9.5, "text in charts can be read"
        assert by_id(driver, "stage").size["width"] > 340
