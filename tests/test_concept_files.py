"""Lists of concepts in the forms in which they are published."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import pytest

from editkit.concepts.concept_file import read_concept_file
from editkit.errors import EditkitError
from tests.cli import run
from tests.text_files import ENCODINGS, written

DATA = Path(os.environ.get("EDITKIT_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
NAMES = ("Ada Lovelace", "Grace Hopper")
PROMPTS_OF_ARTISTS = """,case_number,prompt,evaluation_seed,artist
0,0,"A portrait, in the style of Ada Lovelace",3721,Ada Lovelace
1,1,A still life by Ada Lovelace,3208,Ada Lovelace
2,2,A house by Grace Hopper,11,Grace Hopper
"""


@pytest.mark.parametrize(
    ("content", "name", "column", "heading"),
    [
        ("# erased\nAda Lovelace\n\nGrace Hopper\nada lovelace\n", "erase10.txt", None, ""),
        (PROMPTS_OF_ARTISTS, "artists.csv", None, "artist"),
        ("id,concept\n0,Ada Lovelace\n1,Grace Hopper\n", "Celebrity.csv", None, "concept"),
        ("case_number,evaluation_seed,target,prompt\n0,5,Ada Lovelace,she eats\n1,6,Grace Hopper,she skis\n", "m.csv",
         None, "target"),
        ("Celebrity\tcount\nAda Lovelace\t1\nGrace Hopper\t2\n", "c.tsv", None, "Celebrity"),
        ("who,what\nAda Lovelace,x y\nGrace Hopper,z z\n", "w.csv", "who", "who"),
        ("concept,artist\nx,Ada Lovelace\ny,Grace Hopper\n", "w.csv", "artist", "artist"),
        ("5,Ada Lovelace\n6,Grace Hopper\n", "w.csv", "2", ""),
        ('["Ada Lovelace", "Grace Hopper"]', "w.json", None, ""),
        ('[{"name": "Ada Lovelace", "n": 1}, {"name": "Grace Hopper", "n": 2}]', "w.json", None, "name"),
        ('{"celebrity": ["Ada Lovelace", "Grace Hopper"]}', "w.json", None, "celebrity"),
        ('{\n"erase": ["Ada Lovelace", "Grace Hopper"],\n"keep": ["x"]}', "w.json", "erase", "erase"),
        ('{"Ada Lovelace": ["the countess"], "Grace Hopper": ["the admiral"]}', "w.json", "keys", "keys"),
        ('{"concept": "Ada Lovelace"}\n{"concept": "Grace Hopper"}\n', "w.jsonl", None, "concept"),
    ],
)  # fmt: skip
def test_published_forms_are_read(content: str, name: str, column: str | None, heading: str, tmp_path: Path) -> None:
    read = read_concept_file(written(tmp_path, content, name), column)
    assert read.concepts == NAMES and read.column == heading
    assert f": 2 concepts{f' of column {heading!r}' if heading else ''}" in read.told
    assert ("say one again" in read.told) == (read.rows > 2)


@pytest.mark.parametrize(("encoding", "end"), product(ENCODINGS, ["\n", "\r\n"]))
def test_encodings_and_line_ends_make_no_difference(encoding: str, end: str, tmp_path: Path) -> None:
    text = PROMPTS_OF_ARTISTS.replace("\n", end)
    assert read_concept_file(written(tmp_path, text.encode(encoding), "a.csv")).concepts == NAMES
    lists = '{"artists": ["Ada Lovelace", "Grace Hopper"]}'.encode(encoding)
    assert read_concept_file(written(tmp_path, lists, "a.json")).concepts == NAMES


@pytest.mark.parametrize(
    ("content", "name", "column", "message"),
    [
        (b"", "w.csv", None, "the file is empty"),
        (b"# nothing\n", "w.txt", None, "found only blank lines and comments"),
        (b"caf\xe9\n", "w.txt", None, "byte 0xe9 on line 1"),
        (b",type,prompt,evaluation_seed\n0,erased,A portrait of Ada,1\n1,erased,A sketch of Ada,1\n", "mace.csv", None,
         r"its columns are \(unnamed\), type, prompt, evaluation_seed: say which with --concepts-column NAME"),
        (b"concept,artist\na,b\n", "w.csv", None, "columns concept, artist may be meant; say which with"),
        (b"concept,n\na,1\n", "w.csv", "who", "--concepts-column names 'who', which is not there"),
        (b"a,1\nb,2\n", "w.csv", "3", "--concepts-column 3: expected a position from 1 to 2"),
        (b"Ada\nGrace\n", "w.txt", "who", "--concepts-column who is not there"),
        (b"id,concept\n1,\n", "w.csv", None, "line 2: the concept is empty"),
        (b"id,concept\n1,a, b\n2,c\n", "w.csv", None, "line 2: more fields than the 2 of the first line"),
        (b'{"a": ["x"], "b": ["y"]}', "w.json", None, r"which of its lists is meant\? It has 'a', 'b'; say one with"),
        (b'{"a": ["x"], "b": ["y"]}', "w.json", "c", r"no list 'c'\? It has 'a', 'b'"),
        (b'{"a": ["x", 3]}', "w.json", None, "expected a list of texts as 'a', got 3 in it"),
        (b'{"a": []}', "w.json", None, "expected one concept a line, found none"),
        (b'[{"x": "y"}]', "w.json", None, "its columns are x: say which with --concepts-column NAME"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_an_error(
    content: bytes, name: str, column: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(EditkitError, match=message) as caught:
        read_concept_file(written(tmp_path, content, name), column)
    assert "\n" not in str(caught.value) and "--columns" not in str(caught.value)


@pytest.mark.skipif(not DATA.is_dir(), reason="the published files are no part of the project")
@pytest.mark.parametrize(
    ("name", "column", "count"), [("big_artist_prompts.csv", "artist", 5), ("short_niche_art_prompts.csv", "artist", 5),
                                  ("imagenette.csv", "class", 10), ("validation_imagenet_prompts.csv", "class", 10)]
)  # fmt: skip
def test_published_files_are_read(name: str, column: str, count: int) -> None:
    read = read_concept_file(DATA / name)
    assert (read.column, len(read.concepts)) == (column, count) and read.rows > count


def test_erase_says_what_it_read_of_a_file(tmp_path: Path) -> None:
    written(tmp_path, "class,n\nchurch,1\nmosque,2\nchurch,3\n", "c.csv")
    words = ("erase", "--concept", "Mosque", "--concepts-file", "c.csv", "--method", "uce")
    out = run(*words, "--out", "e.safetensors", cwd=tmp_path)
    assert "Mosque" in out and "church" in out
    refused = run("erase", "--concept", "dog", "--concepts-column", "class", cwd=tmp_path, code=1)
    assert "--concepts-column: names a column of --concepts-file; give that, too" in refused
