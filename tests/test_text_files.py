"""Text files as users have them: every encoding, separator and form is read alike, and what is unsure is an error."""

from __future__ import annotations

import codecs
import csv
import io
import json
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from editkit.drawing.generate import generate_folder
from editkit.drawing.prompt_file import PromptCase, PromptFile, read_prompts
from editkit.errors import EditkitError
from editkit.files.text.table import Layout
from tests.cli import run
from tests.text_files import ENCODINGS, prompts, written

TABLE = "case_number;prompt;evaluation_seed\n1;a church;5\n2;a dog, black;6\n"
CASES = [PromptCase("1", "a church", 5), PromptCase("2", "a dog, black", 6)]


@pytest.mark.parametrize("encoding", [*ENCODINGS, "marked-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end_reads_the_same(encoding: str, end: str, tmp_path: Path) -> None:
    text = TABLE.replace("\n", end)
    mark = codecs.BOM_UTF16_BE if encoding == "marked-16-be" else b""
    content = mark + text.encode("utf-16-be" if mark else encoding)
    for name in ("p.csv", "p.txt", "p.tsv", "p"):
        assert read_prompts(written(tmp_path, content, name)) == CASES


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("first", ["", "sep={}\n", '"sep={}"\r\n', "SEP={}\n"])
def test_the_separator_is_found_or_read_from_excels_line(separator: str, first: str, tmp_path: Path) -> None:
    table = first.format(separator) + TABLE.replace(";", separator)
    assert read_prompts(written(tmp_path, table)) == CASES
    assert read_prompts(written(tmp_path, table, "p.txt")) == CASES


def test_excels_line_counts_as_a_line(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"p\.csv, line 4: expected a whole number as seed, got 'x'"):
        read_prompts(written(tmp_path, "sep=;\nprompt;seed\na;1\nb;x\n"))
    with pytest.raises(EditkitError, match="there is only 'sep=;'"):
        read_prompts(written(tmp_path, "sep=;\n\n"))


CELLS = st.text(
    st.one_of(st.sampled_from(" ,;\t|\"'\n\r#[{"), st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"))),
    min_size=1,
    max_size=12,
).filter(lambda text: text.strip() and "\0" not in text)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.tuples(CELLS, st.integers(0, 99)), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    name=st.sampled_from(["p.csv", "p.tsv", "p.txt", "p"]),
)
def test_what_csv_writes_is_read_back(
    rows: list[tuple[str, int]], separator: str, quoting: int, encoding: str, end: str, name: str
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator=end)  # pyright: ignore
    writer.writerows([("case_number", "seed", "prompt"), *((n, seed, text) for n, (text, seed) in enumerate(rows))])
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), stream.getvalue().encode(encoding), name)
        expected = [PromptCase(str(n), text.strip(), seed) for n, (text, seed) in enumerate(rows)]
        assert read_prompts(path) == expected
        assert read_prompts(path, layout=Layout.of(separator=separator)) == expected


@settings(max_examples=25, deadline=None)
@given(words=st.lists(CELLS, min_size=1, max_size=5), form=st.sampled_from(["list", "pretty", "lines", "objects"]))
def test_json_is_read_back_in_every_form(words: list[str], form: str) -> None:
    objects = [{"prompt": word, "seed": n, "tags": ["x"]} for n, word in enumerate(words)]
    text = {
        "list": json.dumps(words),
        "pretty": json.dumps(objects, indent=2, ensure_ascii=False),
        "lines": "\n".join(map(json.dumps, words)),
        "objects": "\r\n".join(map(json.dumps, objects)) + "\r\n",
    }[form]
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), text, "p.json")
        seeds = [None] * len(words) if form in ("list", "lines") else list(range(len(words)))
        assert [(case.prompt, case.seed) for case in read_prompts(path)] == [
            (word.strip(), seed) for word, seed in zip(words, seeds, strict=True)
        ]


@pytest.mark.parametrize("heading", ["prompt", "Prompts", "text", "caption", "word", "concept", "artist", " Caption "])
@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.txt"])
def test_the_heading_of_an_only_column_is_not_drawn(heading: str, name: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"{heading}\na church\na dog\n", name)
    if name == "p.txt" and heading in ("word", "concept", "artist"):  # which may be the first of many words
        with pytest.raises(
            EditkitError, match=f"first line '{heading}' may be a header or a prompt; --columns 'prompt="
        ):
            prompts(path)
        assert prompts(path, "prompt=1") == [heading, "a church", "a dog"]
        assert prompts(path, f"prompt={heading}") == ["a church", "a dog"]
    else:
        assert prompts(path) == ["a church", "a dog"]


@pytest.mark.parametrize("text", ["text, neon sign\ncaption, too\n", "[a cat:a dog:0.5] on grass\n{red|blue} cat\n"])
def test_plain_lines_stay_as_they_are(text: str, tmp_path: Path) -> None:
    assert prompts(written(tmp_path, text, "p.txt")) == text.splitlines()


@pytest.mark.parametrize("text", ['"A church," he said\na dog\n', "a street, 1920\na street, 1930\n", "#1 dad\nb; c\n"])
def test_quotes_years_and_hashes_of_plain_lines_are_text(text: str, tmp_path: Path) -> None:
    assert prompts(written(tmp_path, text, "p.txt")) == text.splitlines()


UNSURE = [
    ("sensitive prompt,normal prompt\na,b\n", "p.csv", "'sensitive prompt,normal prompt'; .*--columns prompt=NAME"),
    ("sensitive prompt\na\n", "p.csv", "first line 'sensitive prompt' may be a header or a prompt; --columns 'prompt="),
    ("BESCHREIBUNG;NR\na church;5\n", "p.csv", "first line is 'BESCHREIBUNG;NR'; .*--columns prompt=NAME"),
    ("BESCHREIBUNG\tNR\na church\t5\n", "p.txt", r"first line is 'BESCHREIBUNG\\tNR'; .*--separator none"),
    ("1;a church;5\n2;a dog;6\n", "p.txt", "first line is '1;a church;5'; .*--separator none"),
    ("a cat, black\na dog\n", "p.csv", "first line is 'a cat, black'; .*--separator none"),
    ("prompt,x;prompt\n", "p.csv", "fits the separators ',' and ';'; --separator says which"),
    ("seed\n1\n2\n", "p.csv", "expected a column 'prompt' or 'text', but the first line is 'seed'"),
    ('"A church," he said\n', "p.csv", "cannot be read: its quotes do not fit.*--separator none"),
    ("prompt,prompt\na,b\n", "p.csv", "2 columns are called 'prompt'"),
    ('{"description": "a"}\n', "p.jsonl", "the first object has 'description'; .*--columns prompt=NAME"),
]


@pytest.mark.parametrize(("content", "name", "message"), UNSURE)
def test_what_cannot_be_told_is_an_error_that_shows_it(content: str, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=message) as caught:
        read_prompts(written(tmp_path, content, name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "columns", "separator", "expected"),
    [
        ("sensitive prompt,normal prompt\na,b\n", "prompt=sensitive prompt", None, ["a"]),
        ("sensitive prompt,normal prompt\na,b\n", "prompt=2", None, ["b"]),
        ("sensitive prompt\na\n", "prompt=Sensitive-Prompt", None, ["a"]),
        ("sensitive prompt\na\n", "prompt=1", None, ["sensitive prompt", "a"]),
        ("BESCHREIBUNG;NR\na;5\nb;6\n", "prompt=1,seed=2", None, ["a", "b"]),
        ("case_number,prompt\n1,a\n", "prompt=2", None, ["a"]),
        ("a cat, black\na dog\n", None, "none", ["a cat, black", "a dog"]),
        ("prompt,x;prompt\n1,2;3\n", None, "semicolon", ["3"]),
        ("1:a church\n2:a dog\n", "prompt=2,case_number=1", ":", ["a church", "a dog"]),
        ('{"description": "a"}\n', "prompt=description", None, ["a"]),
        ('x,"text, long"\na,b\n', "prompt=text, long", None, ["b"]),
    ],
)
def test_columns_and_separator_say_what_it_is(
    content: str, columns: str | None, separator: str | None, expected: list[str], tmp_path: Path
) -> None:
    assert prompts(written(tmp_path, content), columns, separator) == expected


@pytest.mark.parametrize(
    ("columns", "separator", "message"),
    [
        (
            "promt=a",
            None,
            "--columns promt=...: expected one of prompt, case_number, seed, guidance, label before the =",
        ),
        ("prompt", None, "--columns prompt: expected MEANING=NAME"),
        ("prompt=TEXT", None, r"p\.csv: --columns names 'TEXT', which is not there; the first line is 'case_number;"),
        ("seed=9", None, "--columns seed=9: expected a position from 1 to 3"),
        (None, ";;", "--separator ';;': expected one character"),
        (None, "a", "--separator 'a': expected one character"),
        (None, "tab", r"has one column in the separator tab; --separator ';', perhaps"),
    ],
)
def test_wrong_columns_and_separators_are_named(
    columns: str | None, separator: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(EditkitError, match=message):
        prompts(written(tmp_path, TABLE), columns, separator)


@pytest.mark.parametrize("separator", [",", ";"])
def test_numbers_without_a_header_are_not_dropped_in_silence(separator: str, tmp_path: Path) -> None:
    path = written(tmp_path, "1,a church,5\n2,a dog,6\n".replace(",", separator))
    with pytest.warns(UserWarning, match=r"no header; column 2 is read as the prompt.*--columns prompt=2"):
        assert prompts(path) == ["a church", "a dog"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cases = read_prompts(path, layout=Layout.of({"case_number": 1, "prompt": 2, "seed": 3}))
    assert cases == [PromptCase("1", "a church", 5), PromptCase("2", "a dog", 6)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["a", 5]', "line 1: expected a text or an object, got 5"),
        ('[\n"a",\n["b"]\n]', r'line 3: expected a text or an object, got \["b"\]'),
        ('{"prompt": "a"}\n{"seed": 1}\n', "line 2: no 'prompt' among its keys"),
        ('{"prompt": ["a", "b"]}', r'line 1: expected a text or a number as prompt, got \["a", "b"\]'),
        ('"a"\n{"prompt": \n"c"\n', r"line 2: expected an object or text of JSON on each line, got '\{\"prompt\":'"),
        ('["\\ud800"]', "line 1: it holds half a character"),
    ],
)
def test_bad_items_of_json_are_bad_rows(content: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, content, "p.json")
    with pytest.raises(EditkitError, match=rf"{message}.*; mend them, or --skip-bad-rows"):
        PromptFile.open(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["a", ', "line 1: expected an item of a JSON list"),
        ('["a"\n"b"]', "line 1: after this item a JSON list must have , or ]"),
        ('["a"] ["b"]', "more follows the JSON list"),
        ('{\n"prompt": "a"\n}', r"line 1: expected a list \[...\], or an object or text of JSON on each line"),
        ("a church\n", "line 1: expected a list"),
        ("[]", "expected at least one prompt, found none"),
        ("[" * 100_000, "line 1: expected an item of a JSON list"),
    ],
)
def test_what_is_no_json_says_where(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=message):
        PromptFile.open(written(tmp_path, content, "p.json"), skip_bad_rows=True)


def test_only_the_chosen_rows_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, b"prompt,seed\n" + b"a church,1\n" * 100_000 + b"\xff\n")
    rows = iter(PromptFile(path, 100_000))
    assert next(rows) == PromptCase("0", "a church", 1)
    with pytest.raises(EditkitError, match="byte 0xff on line 100002"):
        PromptFile.open(path)


def test_the_record_says_how_a_file_was_read(tmp_path: Path) -> None:
    path = written(tmp_path, "TEXTE;NR\na;1\n")
    layout = Layout.of("prompt=TEXTE,seed=NR", ";")
    record = PromptFile.open(path, layout=layout).record
    assert record["columns"] == {"prompt": "TEXTE", "seed": "NR"} and record["separator"] == ";"
    assert not {"columns", "separator"} & PromptFile.open(written(tmp_path, TABLE)).record.keys()


def test_generate_draws_a_table_with_semicolons(tmp_path: Path) -> None:
    generate_folder("emoji", written(tmp_path, TABLE.encode("utf-16")), None, "0", tmp_path / "p", steps=1)
    written(tmp_path, "TEXTE|NR\na church|5\n", "q.csv")
    assert sorted(path.name for path in (tmp_path / "p").glob("*.png")) == ["1_5.png", "2_6.png"]
    said = run("generate", "--prompts", "q.csv", "--out", "q", "--model", "emoji", cwd=tmp_path, code=1)
    assert "the first line is 'TEXTE|NR'" in said and "--columns prompt=" in said and said.count("\n") == 1
    columns = ["--columns", "prompt=TEXTE,seed=NR", "--separator", "|"]
    run("generate", "--prompts", "q.csv", "--out", "q", *columns, "--model", "emoji", "--steps", "1", cwd=tmp_path)
    assert [path.name for path in (tmp_path / "q").glob("*.png")] == ["0_5.png"]
