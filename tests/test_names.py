"""Names of files that are made of what a user typed: distinct, readable, and short enough for a file system."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editkit.files.names import MOST_BYTES, file_stem


@pytest.mark.parametrize(
    ("texts", "stem"),
    [
        ([], "edit"),
        ([" "], "edit"),
        (["Church"], "church"),
        (["hot dog", "Van Gogh!"], "hot-dog-van-gogh"),
        (["a", "b", "c", "d"], "a-b-c"),
        (["教会"], "教会"),
        (["كنيسة"], "كنيسة"),
        (["नमस्ते दुनिया"], "नमस्ते-दुनिया"),
        (["می\u200cخواهم"], "میخواهم"),
        (["nai\u0308ve"], "naïve"),
        (["🔫"], "pistol"),
        (["❤️"], "heavy-black-heart"),
        (["../etc/passwd"], "etc-passwd"),
    ],
)
def test_names_keep_the_letters_of_every_script(texts: list[str], stem: str) -> None:
    assert file_stem(texts) == unicodedata.normalize("NFC", stem)


@pytest.mark.parametrize(
    "pair", [("教会", "كنيسة"), ("!!!", "???"), ("🔫", "💣"), ("教会" * 30, "教会" * 31), ("ä", "ö")]
)
def test_two_concepts_have_two_names(pair: tuple[str, str]) -> None:
    first, second = (file_stem([text]) for text in pair)
    assert first != second


@given(st.lists(st.text(), max_size=4))
def test_every_name_is_safe_for_a_file_system(texts: list[str]) -> None:
    stem = file_stem(texts)
    assert stem and len(stem.encode()) <= MOST_BYTES
    assert Path(stem).name == stem and not stem.startswith((".", "-")) and not stem.endswith((".", "-", " "))
    assert stem == unicodedata.normalize("NFC", stem) and not set(stem) & set('<>:"/\\|?*\0 ')
