"""Fetch the icon sets from npm at pinned versions, render them, and compose training pictures."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
import tarfile
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from editkit.emoji.catalogue import Subject, catalogue, subjects
from editkit.errors import EditkitError

PICTURE_SIZE = 64
ICON_SIZE = 54
MAX_SHIFT = 3


@dataclass(frozen=True)
class IconSet:
    """One npm package of `@iconify-json`; `sha512` is the integrity value of the registry."""

    package: str
    version: str
    sha512: str


ICON_SETS = {
    "noto": IconSet(
        "noto", "1.2.9", "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw=="
    ),
    "twemoji": IconSet(
        "twemoji", "1.2.5", "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw=="
    ),
    "fluent": IconSet(
        "fluent-emoji",
        "1.2.7",
        "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
    ),
}


def fetch(style: str, folder: Path) -> dict:
    """The `icons.json` of one style, downloaded into `folder` once and checked against its pinned sha512."""
    source = ICON_SETS[style]
    path = folder / f"{source.package}-{source.version}.tgz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        url = f"https://registry.npmjs.org/@iconify-json/{source.package}/-/{path.name}"
        try:
            with urllib.request.urlopen(url, timeout=180) as answer:
                content = answer.read()
        except OSError as error:
            raise EditkitError(
                f"icon set {style}: {url} cannot be fetched ({error}); put the file at {path}"
            ) from error
        _check(style, source, content)
        path.write_bytes(content)
    content = path.read_bytes()
    _check(style, source, content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.extractfile("package/icons.json")
        assert member is not None
        return json.load(member)


def _check(style: str, source: IconSet, content: bytes) -> None:
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != source.sha512:
        raise EditkitError(
            f"icon set {style}: expected sha512 {source.sha512}, got {digest}; delete it and fetch again"
        )


def slug(subject: Subject) -> str:
    """The icon's name in its set. Fluent writes `-light` where the others write `-light-skin-tone`."""
    known = catalogue()
    if subject.gender is None or subject.tone is None:
        return known.slugs.get(subject.concept, subject.concept.replace(" ", "-"))
    tone = known.tones[subject.tone]
    if subject.style == "fluent":
        tone = tone.removesuffix("-skin-tone")
    return f"{subject.gender}-{subject.concept.replace(' ', '-')}-{tone}"


def render(icons: dict, name: str, size: int = ICON_SIZE) -> np.ndarray:
    """One icon as `(size, size, 4)` uint8, straight alpha."""
    import resvg_py  # a training-time dependency: the `train` extra

    while name in icons.get("aliases", {}):
        name = icons["aliases"][name]["parent"]
    icon = icons["icons"][name]
    box = f"0 0 {icon.get('width', icons['width'])} {icon.get('height', icons['height'])}"
    body = re.sub(r"\s+", " ", icon["body"])
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{size}" height="{size}" viewBox="{box}">{body}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def render_all(wanted: Iterable[Subject], folder: Path) -> np.ndarray:
    """`(n, ICON_SIZE, ICON_SIZE, 4)` uint8: the drawings of `wanted`, kept in `folder` between runs."""
    wanted = list(wanted)
    key = hashlib.sha256(repr((wanted, ICON_SETS, ICON_SIZE)).encode()).hexdigest()[:12]
    path = folder / f"icons-{key}.npy"
    if not path.exists():
        sets = {style: fetch(style, folder) for style in {subject.style for subject in wanted}}
        drawings = np.stack([render(sets[subject.style], slug(subject)) for subject in wanted])
        part = path.with_suffix(".part.npy")
        np.save(part, drawings)
        part.rename(path)
    return np.load(path)


def render_others(folder: Path, most: int = 300, seed: int = 0) -> np.ndarray:
    """Icons that the model is not taught, `(n, ICON_SIZE, ICON_SIZE, 4)`: the judge must know them as unknown.

    Near relatives of what is taught (another book, another truck) are left out: whatever shares a word with a slug
    of the catalogue, faces, people, and signs.
    """
    path = folder / f"others-{most}-{seed}.npy"
    if not path.exists():
        taught = {word for subject in subjects() for word in slug(subject).split("-")}
        odd = {"face", "man", "woman", "person", "people", "flag", "keycap", "button", "family", "hand", "hands", "boy"}
        drawings = []
        for style in ICON_SETS:
            icons = fetch(style, folder)
            names = [name for name in icons["icons"] if not set(name.split("-")) & (taught | odd)]
            for name in random.Random(seed).sample(sorted(names), min(most, len(names))):
                drawings.append(render(icons, name))
        np.save(path, np.stack(drawings))
    return np.load(path)
