"""Debian's Chromium, headless and without a network, for the tests that look at a page."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb",
)  # fmt: skip


def programs() -> tuple[str, str]:
    """Chromium and its driver; the test is skipped where they are not installed, and fails in CI."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if programs[0] is None or programs[1] is None:
        reason = "chromium and chromedriver are not installed (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return programs[0], programs[1]


@contextmanager
def browser(profile: Path, width: int = 1280, height: int = 1000, dark: bool = False) -> Iterator[Any]:
    """A driver that keeps a log of every request and console message."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, chromedriver = programs()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(chromedriver))
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get("about:blank")  # away from Chromium's own first page
        requests(driver)
        yield driver
    finally:
        driver.quit()


def requests(driver: Any) -> list[str]:
    """The address of every request since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def pixels(element: Any) -> np.ndarray:
    """What is drawn where `element` is, `(height, width, 3)`."""
    with Image.open(io.BytesIO(element.screenshot_as_png)) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int64)
