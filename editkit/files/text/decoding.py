"""The text of a file that a user gives: which encoding it is in, and what it is where it is no text."""

from __future__ import annotations

import codecs
import io
import struct
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from editkit.errors import EditkitError

HEAD = 1 << 16
"""Bytes that tell the encoding."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

AS_CSV = "save it as CSV (UTF-8)"
AS_TEXT = "save it as plain text (UTF-8)"
UNPACK = "unpack it first"
SIGNATURES = (
    (b"\x89PNG\r\n", "a picture (PNG)", "give a text file"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "give a text file"),
    (b"GIF8", "a picture (GIF)", "give a text file"),
    (b"RIFF", "a picture or sound (RIFF)", "give a text file"),
    (b"%PDF-", "a PDF", AS_TEXT),
    (b"{\\rtf", "a document with formats (RTF)", AS_TEXT),
    (b"\xd0\xcf\x11\xe0", "an old Office document (.xls or .doc)", AS_CSV),
    (b"PAR1", "a Parquet table", AS_CSV),
    (b"SQLite format 3", "an SQLite database", AS_CSV),
    (b"\x89HDF", "an HDF5 file", AS_CSV),
    (b"GGUF", "model weights (GGUF)", "give a text file"),
    (b"\x1f\x8b", "compressed (gzip)", UNPACK),
    (b"BZh", "compressed (bzip2)", UNPACK),
    (b"\xfd7zXZ", "compressed (xz)", UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)", UNPACK),
    (b"7z\xbc\xaf", "a 7-zip archive", UNPACK),
    (b"version https://git-lfs.", "a pointer of Git LFS in place of the file", "fetch it with `git lfs pull`"),
)
ZIPS = (
    (b"xl/", "a zip / Excel workbook (.xlsx)", AS_CSV),
    (b"opendocument.spreadsheet", "a zip / OpenDocument spreadsheet (.ods)", AS_CSV),
    (b"word/", "a zip / Word document (.docx)", AS_TEXT),
    (b"", "a zip archive (an Excel workbook is one, too)", f"unpack it, or {AS_CSV}"),
)


@contextmanager
def open_text(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a text file with their ends (`\\n`, `\\r\\n`, `\\r`) as they stand, decoded as they are asked for.

    UTF-8, UTF-16 and UTF-32 with a byte order mark; UTF-8 and UTF-16 without one. A pipe will do.

    Raises:
        EditkitError: the file cannot be read, is empty, or is no text.
    """
    try:
        is_folder = path.is_dir()
        stream = None if is_folder else io.BufferedReader(io.FileIO(path), HEAD)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if stream is None:
        raise EditkitError(f"{path}: expected a text file, this is a folder; give a file in it")
    with stream:
        try:
            head = stream.peek(HEAD)
        except OSError as error:
            raise _unreadable(path, error) from error
        encoding = _encoding(path, head)
        with io.TextIOWrapper(stream, encoding, newline="") as text:
            yield _lines(path, text, encoding)


def decode_text(path: Path, content: bytes) -> str:
    """The whole of a text file that was read already.

    Args:
        path: for the error.

    Raises:
        EditkitError: it is empty, or no text.
    """
    encoding = _encoding(path, content[:HEAD])
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _undecodable(path, encoding, content) from error


def _lines(path: Path, stream: io.TextIOWrapper, encoding: str) -> Iterator[str]:
    try:
        yield from stream
    except UnicodeDecodeError as error:
        content = path.read_bytes() if path.is_file() else b""  # the error counts from a buffer's start
        raise _undecodable(path, encoding, content) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _encoding(path: Path, head: bytes) -> str:
    mark, marked = next(((mark, name) for mark, name in MARKS if head.startswith(mark)), (b"", ""))
    if head == mark:
        raise EditkitError(f"{path}: expected a text file, but the file is empty")
    if marked:
        return marked
    _check_text(path, head)
    if b"\0" not in head:
        return "utf-8"
    encoding = _utf16(head)
    if encoding is None:
        raise EditkitError(f"{path}: expected a text file, this is binary; give a text file, in UTF-8")
    return encoding


def _check_text(path: Path, head: bytes) -> None:
    """Name what is no text by the bytes that it begins with."""
    kind = next(((what, remedy) for start, what, remedy in SIGNATURES if head.startswith(start)), None)
    if head.startswith(b"PK\x03\x04"):
        kind = next((what, remedy) for inside, what, remedy in ZIPS if inside in head)
    elif head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        kind = ("a web page (HTML), perhaps in place of the file", "download the raw file")
    elif len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 1 << 27:
        kind = ("model weights (safetensors)", "give a text file")
    if kind is not None:
        raise EditkitError(f"{path}: expected a text file, this is {kind[0]}; {kind[1]}")


def _utf16(head: bytes) -> str | None:
    """Which of the two byte orders makes text of `head`; of both, that with more of ASCII, such as spaces and line
    ends. None where neither does, or nothing tells them apart."""
    whole = head[: len(head) // 2 * 2]
    counts = {name: _ascii_count(whole, name) for name in ("utf-16-le", "utf-16-be")}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] > min(counts.values()) else None


def _ascii_count(head: bytes, encoding: str) -> int:
    """How many characters are ASCII; -1 where it is no text in this encoding."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return -1
    if any(unicodedata.category(letter) in ("Cc", "Cn") and letter not in "\t\n\r\f\v" for letter in text):
        return -1
    return sum(letter.isascii() for letter in text)


def _unreadable(path: Path, error: OSError | ValueError) -> EditkitError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return EditkitError(f"{str(path)[:200]!s}: expected a text file, but it cannot be read ({reason}); check the path")


def _undecodable(path: Path, encoding: str, content: bytes) -> EditkitError:
    """Says on which line the first byte is that does not belong."""
    if not encoding.startswith("utf-8"):
        name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        return EditkitError(f"{path}: begins as {name} and does not go on so; is it cut off? {AS_TEXT}")
    where = ""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        where = f" (byte 0x{content[error.start]:02x} on line {before.count(10) + 1})"
    return EditkitError(f"{path}: expected text in UTF-8 or UTF-16, this is neither{where}; {AS_TEXT}")
