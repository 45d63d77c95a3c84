"""Word lists, TIME's tables, suites and profiles are read as prompt files are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from editkit.concepts.profile_file import read_profile
from editkit.concepts.vocabulary import read_word_file
from editkit.errors import EditkitError
from editkit.evaluation.suites.suite import load_suite
from editkit.evaluation.time_metrics import COLUMNS as TIME
from editkit.evaluation.time_metrics import read_time_trials
from editkit.files.text.table import Layout
from tests.text_files import ENCODINGS, written

WORDS = ["church", "hot dog", "教会"]


@pytest.mark.parametrize(("encoding", "end"), product(ENCODINGS, ["\n", "\r\n", "\r"]))
def test_word_lists_read_the_same_in_every_encoding(encoding: str, end: str, tmp_path: Path) -> None:
    text = end.join(["# of things", "church", "", " hot dog ", "教会", "church", ""])
    for name in ("w.txt", "w", "w.csv"):
        assert read_word_file(written(tmp_path, text.encode(encoding), name)) == WORDS


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("word\nchurch\nhot dog\n教会\n", "w.csv"),
        ("# of things\nConcept\nchurch\nhot dog\n教会\n", "w.csv"),
        ("id;name;count\n1;church;5\n2;hot dog;6\n3;教会;7\n", "w.csv"),
        ("1\tchurch\n2\thot dog\n3\t教会\n", "w.tsv"),
        ('["church", "hot dog", "教会"]', "w.json"),
        ('{"concept": "church"}\n{"concept": "hot dog"}\n"教会"\n', "w.jsonl"),
    ],
)
def test_word_lists_may_be_tables_and_json(content: str, name: str, tmp_path: Path) -> None:
    assert read_word_file(written(tmp_path, content, name)) == WORDS


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (
            "word\nchurch\n",
            "w.txt",
            "'word' may be a header or a word; write '# word' if it is a header; if not, put it",
        ),
        ("a,b\nc,d\n", "w.csv", "first line is 'a,b'; head that of the words 'word', or keep it alone"),
        ("church\t5\ndog\t6\n", "w.txt", r"first line is 'church\\t5'; head that of the words 'word'"),
        ("artist,concept\nc,d\n", "w.csv", "each of its columns concept, artist may be meant; keep one of them"),
        ("word\nhot dog, with mustard\n", "w.csv", "line 2: more fields than the 1 of the first line"),
        ("id,word\n1,\n", "w.csv", "line 2: the word is empty"),
        ("# nothing\n", "w.txt", "found only blank lines and comments"),
        ("word\n", "w.csv", "expected one word or phrase a line, found none"),
        ('["cat", 3]', "w.json", "line 1: expected a text or an object, got 3"),
    ],
)
def test_word_lists_that_are_not_clear_say_how_to_make_them(
    content: str, name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(EditkitError, match=message) as caught:
        read_word_file(written(tmp_path, content, name))
    assert "--columns" not in str(caught.value)  # which commands do not have for words


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_times_table_reads_the_same_in_every_form(encoding: str, tmp_path: Path) -> None:
    rows: list[Sequence[str]] = [[name.upper() for name in TIME], [f"a {name}, x" for name in TIME]]
    plain = "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows)
    excel = "sep=;\r\n" + "\r\n".join(";".join(row) for row in rows)
    objects = json.dumps([dict(zip(TIME, rows[1], strict=True))])
    trials = read_time_trials(written(tmp_path, plain, "t.csv"))
    assert len(trials) == 11
    assert read_time_trials(written(tmp_path, excel.encode(encoding), "t.csv")) == trials
    assert read_time_trials(written(tmp_path, objects.encode(encoding), "t.json")) == trials
    named = plain.replace("OLD", "before")
    assert read_time_trials(written(tmp_path, named, "t.csv"), Layout.of("old=before")) == trials


def test_a_row_of_time_may_lack_its_last_pairs(tmp_path: Path) -> None:
    row = ",".join(f"a {name}" for name in TIME[:12])
    assert len(read_time_trials(written(tmp_path, ",".join(TIME) + f"\n{row}\n"))) == 6


def test_suites_and_profiles_in_a_wrong_encoding_are_named(tmp_path: Path) -> None:
    suite = (Path(__file__).parent.parent / "editkit/evaluation/suites/emoji-objects.toml").read_text(encoding="utf-8")
    assert load_suite(str(written(tmp_path, suite.encode("utf-16"), "s.toml"))).name == "emoji-objects"
    with pytest.raises(EditkitError, match="byte 0xe9 on line 1"):
        load_suite(str(written(tmp_path, b'name = "caf\xe9"', "s.toml")))
    assert read_profile(written(tmp_path, 'name = "café"'.encode("utf-16"), "p.toml")).name == "café"
    with pytest.raises(EditkitError, match="byte 0xe9 on line 2"):
        read_profile(written(tmp_path, b'# x\nname = "caf\xe9"', "p.toml"))
