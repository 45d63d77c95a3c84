"""Text files as users have them: every encoding, separator and form is read alike, and what is unsure is an error."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from editkit.concepts.profile_file import read_profile
from editkit.concepts.vocabulary import read_word_file
from editkit.drawing.generate import generate_folder
from editkit.drawing.prompt_file import PromptCase, PromptFile, read_prompts
from editkit.errors import EditkitError
from editkit.evaluation.suites.suite import load_suite
from editkit.evaluation.time_metrics import COLUMNS as TIME
from editkit.evaluation.time_metrics import read_time_trials
from editkit.files.text.table import Layout
from tests.cli import run

TABLE = "case_number;prompt;evaluation_seed\n1;a church;5\n2;a dog, black;6\n"
CASES = [PromptCase("1", "a church", 5), PromptCase("2", "a dog, black", 6)]
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")


def written(folder: Path, content: str | bytes, name: str = "p.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def prompts(path: Path, columns: str | None = None, separator: str | None = None) -> list[str]:
    return [case.prompt for case in read_prompts(path, layout=Layout.of(columns, separator))]


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


def zipped(inside: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(inside, "x")
    return stream.getvalue()


BINARY = [
    (b"", "the file is empty"),
    (codecs.BOM_UTF8, "the file is empty"),
    (codecs.BOM_UTF16_LE, "the file is empty"),
    (b"\n \n", "found only blank lines"),
    (b"\x89PNG\r\n\x1a\n\0\0", r"this is a picture \(PNG\)"),
    (zipped("xl/workbook.xml"), r"this is a zip / Excel workbook \(\.xlsx\); save it as CSV"),
    (zipped("weights.npy"), "this is a zip archive"),
    (b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32"}}', r"this is model weights \(safetensors\)"),
    (b"PAR1\x15\0", "this is a Parquet table; save it as CSV"),
    (b"\x1f\x8b\x08\0", r"this is compressed \(gzip\); unpack it first"),
    (b"<!DOCTYPE html>\n<html>", r"this is a web page \(HTML\).*download the raw file"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer.*git lfs pull"),
    (b"prompt\ncaf\xe9\n", r"neither \(byte 0xe9 on line 2\); save it as plain text \(UTF-8\)"),
    ("prompt\na\n".encode("utf-16")[:-1], "begins as UTF-16 and does not go on so"),
    (b"\0\1\2\3\0\0\0\5", "this is binary"),
]


@pytest.mark.parametrize(("content", "message"), BINARY)
def test_what_is_no_text_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    for read in (read_prompts, read_word_file, read_time_trials):
        with pytest.raises(EditkitError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_wrong_byte_far_from_the_start_is_found(end: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, b"word" + end + (b"a" + end) * 90_000 + b"\xe9" + end)
    for read in (read_prompts, read_word_file):
        with pytest.raises(EditkitError, match="byte 0xe9 on line 90002"):
            read(path)


def test_places_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "this is a folder"),
        (tmp_path / "none", "No such file or directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("a\0b"), "null byte"),
    ):
        with pytest.raises(EditkitError, match=message):
            read_word_file(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "cat\n")
    path.chmod(0)
    with pytest.raises(EditkitError, match="Permission denied"):
        read_word_file(path)


def test_a_pipe_serves_for_words_and_not_for_prompts(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"cat\nhot dog\n")
    os.close(write)
    assert read_word_file(Path(f"/dev/fd/{read}")) == ["cat", "hot dog"]
    os.close(read)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EditkitError, match="read more than once, which a pipe cannot be"):
        PromptFile.open(tmp_path / "pipe")


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
