"""Files of TOML that say what a thing is, a suite, a profile, a preset, a recipe: read, and told of alike where they
are faulty."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

from editkit.errors import EditkitError, did_you_mean
from editkit.files.text.decoding import decode_text

ENDING = ".toml"


def read_content(path: Path, what: str) -> bytes:
    """The bytes of a file that errors call `what`.

    Raises:
        EditkitError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise EditkitError(f"{what} {path}: cannot be read ({error.strerror}); check the path") from error


def read_text(path: Path, what: str) -> str:
    """The same as text.

    Raises:
        EditkitError: it cannot be read, or is no text.
    """
    return decode_text(path, read_content(path, what))


def parse_toml(text: str, path: Path, what: str, remedy: str = "") -> dict[str, Any]:
    """What the text of a file says.

    Raises:
        EditkitError: it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EditkitError(f"{what} {path}: expected TOML ({error}){remedy}") from error


def shipped_names(package: str) -> list[str]:
    """The files of a package that are known by name.

    >>> "emoji-objects" in shipped_names("editkit.evaluation.suites")
    True
    """
    return sorted(file.name.removesuffix(ENDING) for file in files(package).iterdir() if file.name.endswith(ENDING))


def file_of(package: str, name: str | Path, what: str) -> Path:
    """The file that a user means by a path with the ending `.toml`, or by one of `shipped_names`, with the ending or
    without: a file that is there comes first.

    Args:
        what: what errors call it; with an "s" it is the command that lists them.

    Raises:
        EditkitError: nothing has that name.
    """
    path, known = Path(name).expanduser(), shipped_names(package)
    word = str(name).removesuffix(ENDING)
    if path.suffix == ENDING and (path.exists() or word not in known):
        return path
    if word not in known:
        raise EditkitError(
            f"{what} {word!r}: {did_you_mean(word, known)}expected one of {', '.join(known)}, or the path of a "
            f"{ENDING} file; `editkit {what}s` describes them"
        )
    return Path(str(files(package) / f"{word}{ENDING}"))


@dataclass(frozen=True)
class TomlReader:
    """A base for what checks one file; every error names the file and the key.

    Attributes:
        what: what errors call the file.
        path: of the file; errors name it, and its paths start there.
        raw: what it says.
    """

    what: ClassVar[str]
    path: Path
    raw: Mapping[str, Any]

    def table(self, key: str, value: Any) -> dict[str, Any]:
        """A table."""
        if not isinstance(value, dict):
            raise self.wrong(key, f"expected a table, got {value!r}")
        return value

    def known(self, key: str, given: Iterable[str], names: Iterable[str]) -> None:
        """Refuse a key of `given` that is none of `names`, with the nearest."""
        names = list(names)
        unknown = next((name for name in given if name not in names), None)
        if unknown is not None:
            where = f"{key}.{unknown}".lstrip(".")
            raise self.wrong(where, f"no such key; {did_you_mean(unknown, names)}known are {', '.join(names)}")

    def wrong(self, key: str, what: str) -> EditkitError:
        """An error to raise."""
        return EditkitError(f"{self.what} {self.path}, {key}: {what}")
