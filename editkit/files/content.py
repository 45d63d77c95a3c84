"""What a file is by the bytes that it begins with: hubs and browsers save pointers and web pages under other names."""

from __future__ import annotations

from dataclasses import dataclass

AS_CSV = "save it as CSV (UTF-8)"
AS_TEXT = "save it as plain text (UTF-8)"
UNPACK = "unpack it first"
CONVERT = (
    "which can run code when loaded, whatever its name says; convert it to safetensors on a machine that you can lose"
)
DOWNLOAD = "download the file itself (on the hub a link with /resolve/, and accept its licence there first)"


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        what: with its article, as an error calls it.
        if_text: what to do where a text file was expected; None where that is what it is.
        if_weights: what to do where weights were expected; None where that is what it is.
    """

    what: str
    if_text: str | None = "give a text file"
    if_weights: str | None = "give the weights"


SAFETENSORS = Content("model weights (safetensors)", if_weights=None)

BINARY: tuple[tuple[tuple[bytes, ...], Content], ...] = (
    ((b"\x89PNG\r\n",), Content("a picture (PNG)")),
    ((b"\xff\xd8\xff",), Content("a picture (JPEG)")),
    ((b"GIF8",), Content("a picture (GIF)")),
    ((b"RIFF",), Content("a picture or sound (RIFF)")),
    ((b"%PDF-",), Content("a PDF", AS_TEXT)),
    ((b"{\\rtf",), Content("a document with formats (RTF)", AS_TEXT)),
    ((b"\xd0\xcf\x11\xe0",), Content("an old Office document (.xls or .doc)", AS_CSV)),
    ((b"PAR1",), Content("a Parquet table", AS_CSV)),
    ((b"SQLite format 3",), Content("an SQLite database", AS_CSV)),
    ((b"\x89HDF",), Content("an HDF5 file", AS_CSV)),
    (
        (b"GGUF",),
        Content(
            "a GGUF file: quantised blocks, no plain numbers",
            if_weights="give the unquantised model, and quantise the export",
        ),
    ),
    (
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        Content("a pickle", if_weights=f"it is one of torch.save, {CONVERT}"),
    ),
    ((b"\x1f\x8b",), Content("compressed (gzip)", UNPACK, UNPACK)),
    ((b"BZh",), Content("compressed (bzip2)", UNPACK, UNPACK)),
    ((b"\xfd7zXZ",), Content("compressed (xz)", UNPACK, UNPACK)),
    ((b"\x28\xb5\x2f\xfd",), Content("compressed (zstd)", UNPACK, UNPACK)),
    ((b"7z\xbc\xaf",), Content("a 7-zip archive", UNPACK, UNPACK)),
    ((b"Rar!",), Content("a RAR archive", UNPACK, UNPACK)),
)

MARKUP: tuple[tuple[tuple[bytes, ...], Content], ...] = (
    (
        (b"version https://git-lfs.",),
        Content(
            "a git-lfs pointer, a note of where the content lies",
            "run `git lfs pull` in its repository",
            "run `git lfs pull` in its repository",
        ),
    ),
    (
        (b"<!doctype", b"<html", b"<head>"),
        Content("a web page (HTML), saved in place of the file", "download the raw file", DOWNLOAD),
    ),
    ((b"<?xml",), Content("an XML document, perhaps an error in place of the file", AS_TEXT, DOWNLOAD)),
    ((b"{", b"["), Content("JSON text", None, "give the weights that it belongs to")),
)
"""In lower case, and without white space before them."""

ZIPS = (
    (b"xl/", Content("a zip / Excel workbook (.xlsx)", AS_CSV)),
    (b"opendocument.spreadsheet", Content("a zip / OpenDocument spreadsheet (.ods)", AS_CSV)),
    (b"word/", Content("a zip / Word document (.docx)", AS_TEXT)),
    (
        b"",
        Content(
            "a zip archive (an Excel workbook is one, too)",
            f"unpack it, or {AS_CSV}",
            f"in place of weights that is a pickle of torch.save, {CONVERT}",
        ),
    ),
)
"""What is near the beginning of a zip archive, and what it then is."""

LONGEST = 100_000_000
"""Bytes of the longest header that the safetensors format allows."""


def content_of(head: bytes) -> Content | None:
    """What a file holds that begins with `head`; None where nothing tells: plain text, for one.

    >>> content_of(b"GIF89a").what
    'a picture (GIF)'
    >>> content_of(b"a photo of a church") is None
    True
    """
    # First: the length that begins a safetensors file may be any number, also one that looks like a pickle's start.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LONGEST:
        return SAFETENSORS
    if head.startswith(b"PK\x03\x04"):
        return next(content for inside, content in ZIPS if inside in head)
    for starts, content in BINARY:
        if head.startswith(starts):
            return content
    text = head.lstrip()[:64].lower()
    return next((content for starts, content in MARKUP if text.startswith(starts)), None)
