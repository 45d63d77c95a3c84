"""What is no text file is named: pictures, archives, weights, web pages, other encodings, unreadable places."""

from __future__ import annotations

import codecs
import io
import os
import zipfile
from pathlib import Path

import pytest

from editkit.concepts.vocabulary import read_word_file
from editkit.drawing.prompt_file import PromptFile, read_prompts
from editkit.errors import EditkitError
from editkit.evaluation.time_metrics import read_time_trials
from tests.text_files import written


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
