"""The text of a file that a user gives: which encoding it is in, and what it is where it is no text."""

from __future__ import annotations

import codecs
import io
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from editkit.errors import EditkitError
from editkit.files.content import AS_TEXT, content_of

HEAD = 1 << 16
"""Bytes that tell the encoding."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
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
    content = content_of(head)
    if content is not None and content.if_text is not None:
        raise EditkitError(f"{path}: expected a text file, this is {content.what}; {content.if_text}")


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
