"""A suite: what is asked for, who looks, what is counted. `editkit/evaluation/suites/*.toml`, or a user's own file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.evaluation.metrics.metric import TargetShares
from editkit.evaluation.metrics.named import check_metric
from editkit.evaluation.suites.binding import Binding
from editkit.files.text.decoding import decode_text
from editkit.files.text.toml import file_of, parse_toml, read_content, shipped_names

SHIPPED = "editkit.evaluation.suites"
PROVENANCE = re.compile(rb"(?m)^(?:protocol|version) = .*\n")
"""Lines of a suite that say whose it is."""
FROM_FILE, FROM_TIME = "file", "time"
"""The values of `prompts` where the prompts are the user's CSV: one a row, or TIME's format."""


@dataclass(frozen=True)
class Suite:
    """The contents of a suite file.

    Attributes:
        about: one sentence.
        protocol: whose way of measuring it is: the paper and its section, or that it is editkit's own.
        version: of the suite. It counts up when prompts, detector or metrics change: numbers of two do not compare.
        detector: one of `editkit detectors`; empty where no metric asks one.
        metrics: names, as `editkit metrics` writes them.
        seeds: of rows that have none, as `parse_seeds` reads them.
        classes: class → the detector's labels for it.
        templates: sentences with `{}` for the class and `{subject}` for the subject.
        subjects: what else a prompt names; empty where the templates do not ask for it.
        erases: class → the concepts that an edit must name to erase it. Default: the class itself.
        splits: name → the erased classes. The others are kept.
        role: `erase` or `keep` where every prompt has it: a file without classes.
        attribute: where classes are values of an attribute of the detection.
        bindings: in place of classes, templates, subjects and attribute: several of these side by side.
        debias: the wanted shares of an attribute.
        needs: weights or packages that a user must have, in words.
        prompts: `file` or `time` where the prompts are a CSV, the user's unless the suite has a file.
        file: that file; None where it is the user's.
        sha256: of the file without its lines of protocol and version, which say whose it is and measure nothing.
    """

    name: str
    about: str
    detector: str
    metrics: tuple[str, ...]
    protocol: str = ""
    version: str = ""
    seeds: str = "0"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    templates: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    erases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    role: str | None = None
    attribute: str | None = None
    bindings: tuple[Binding, ...] = ()
    debias: TargetShares = field(default_factory=TargetShares)
    needs: str = ""
    prompts: str | None = None
    file: Path | None = None
    sha256: str = ""

    @property
    def record(self) -> dict[str, str]:
        """What results say of it."""
        said = {"protocol": self.protocol, "version": self.version}
        return {"name": self.name, **{key: text for key, text in said.items() if text}, "sha256": self.sha256}

    def concepts_of(self, label: str) -> tuple[str, ...]:
        """What an edit must name to erase a class."""
        return self.erases.get(label, (label,))

    def concepts_in(self, split: str) -> list[str]:
        """What an edit must name to erase the classes of a split.

        Raises:
            EditkitError: there is no such split.
        """
        if split not in self.splits:
            raise EditkitError(f"split {split!r}: suite {self.name} has {', '.join(self.splits) or 'none'}")
        return list(dict.fromkeys(concept for label in self.splits[split] for concept in self.concepts_of(label)))

    @property
    def parts(self) -> tuple[Binding, ...]:
        """What is asked for, part by part; most suites have one."""
        return self.bindings or (Binding(self.attribute, tuple(self.classes), self.templates, self.subjects),)

    def attribute_of(self, label: str) -> str | None:
        """The attribute that a class is a value of; None where it is a label."""
        return next((part.attribute for part in self.parts if label in part.classes), self.attribute)

    def labels_of(self, label: str) -> tuple[str, ...]:
        """The detector's labels of a class."""
        return self.classes.get(label, (label,))


def suite_names() -> list[str]:
    """The suites that editkit has."""
    return shipped_names(SHIPPED)


def suites() -> list[Suite]:
    """The suites that `evaluate` knows by name.

    >>> "emoji-objects" in [suite.name for suite in suites()]
    True
    """
    return [load_suite(name) for name in suite_names()]


def load_suite(name: str) -> Suite:
    """A suite by name, or from a `.toml` file.

    Raises:
        EditkitError: there is none, it is no TOML, or it does not say what a suite must.
    """
    path = file_of(SHIPPED, name, "suite")
    content = read_content(path, "suite")
    raw = parse_toml(decode_text(path, content), path, "suite")
    return _Reader(path, raw).suite(hashlib.sha256(PROVENANCE.sub(b"", content)).hexdigest())


@dataclass(frozen=True)
class _Reader:
    """Checks one file; every error names it and the key."""

    path: Path
    raw: Mapping[str, Any]

    def suite(self, sha256: str) -> Suite:
        known = {*Suite.__dataclass_fields__} - {"sha256"}
        unknown = [key for key in self.raw if key not in known]
        if unknown:
            raise self.wrong(unknown[0], f"no such key; known are {', '.join(sorted(known))}")
        given = self.raw.get("prompts")
        if given not in (None, FROM_FILE, FROM_TIME):
            raise self.wrong(
                "prompts", f"expected 'file' or 'time', or no such key but classes and templates, got {given!r}"
            )
        suite = Suite(
            name=self.text("name"),
            about=self.text("about", ""),
            protocol=self.text("protocol", ""),
            version=self.text("version", ""),
            detector=self.text("detector", ""),
            metrics=self.texts("metrics"),
            seeds=self.text("seeds", "0"),
            classes=self.classes(),
            templates=self.texts("templates", ()),
            subjects=self.texts("subjects", ()),
            erases=self.lists("erases"),
            splits=self.lists("splits"),
            role=self.text("role", None),
            attribute=self.text("attribute", None),
            bindings=self.bindings(),
            debias=self.debias(),
            needs=self.text("needs", ""),
            prompts=given,
            file=self.file(given),
            sha256=sha256,
        )
        self.check(suite)
        return suite

    def check(self, suite: Suite) -> None:
        """What the keys must say together."""
        if suite.prompts is None and not (suite.classes and (suite.templates or suite.bindings)):
            raise self.wrong("templates", 'expected classes and templates, or prompts = "file" for the user\'s CSV')
        for part in suite.parts:
            if fault := part.fault():
                raise self.wrong("templates", fault)
        if suite.role not in (None, "erase", "keep"):
            raise self.wrong("role", f"expected 'erase' or 'keep', got {suite.role!r}")
        for key, used in (("erases", suite.erases), *((f"splits.{n}", members) for n, members in suite.splits.items())):
            strange = [label for label in used if suite.classes and label not in suite.classes]
            if strange:
                raise self.wrong(key, f"{strange[0]!r} is no class of this suite ({', '.join(suite.classes)})")
        for name in suite.metrics:
            try:
                check_metric(name, suite.debias)
            except EditkitError as error:
                raise self.wrong("metrics", str(error)) from error

    def file(self, prompts: str | None) -> Path | None:
        """Relative to the suite."""
        name = self.text("file", None)
        if name is None:
            return None
        if prompts is None:
            raise self.wrong("file", 'goes with prompts = "file" or "time", which say how it is read')
        path = self.path.parent / name
        if not path.is_file():
            raise self.wrong("file", f"{path}: no such file; it is looked for beside the suite")
        return path

    def text(self, key: str, default: Any = ...) -> Any:
        value = self.value(key, default)
        if value is not default and not (isinstance(value, str) and value.strip()):
            raise self.wrong(key, f"expected a text, got {value!r}")
        return value

    def texts(self, key: str, default: Any = ...) -> Any:
        value = self.value(key, default)
        return value if value is default else self.checked_texts(key, value)

    def lists(self, key: str) -> dict[str, tuple[str, ...]]:
        """A table of lists of texts."""
        table = self.table(key, self.raw.get(key, {}))
        return {name: self.checked_texts(f"{key}.{name}", texts) for name, texts in table.items()}

    def bindings(self) -> tuple[Binding, ...]:
        """The tables `[[bindings]]`, each a reader's of its own."""
        tables = self.raw.get("bindings", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.wrong("bindings", f"expected tables [[bindings]], got {tables!r}")
        known = [*Binding.__dataclass_fields__]
        both = [key for key in known if tables and key in self.raw]
        if both:
            raise self.wrong(both[0], "expected in [[bindings]] alone, since the suite has some")
        return tuple(replace(self, raw=table).binding(known) for table in tables)

    def binding(self, known: Sequence[str]) -> Binding:
        """One of them."""
        unknown = [key for key in self.raw if key not in known]
        if unknown:
            raise self.wrong(f"bindings.{unknown[0]}", f"no such key; known are {', '.join(known)}")
        return Binding(
            self.text("attribute", None), self.texts("classes"), self.texts("templates"), self.texts("subjects", ())
        )

    def classes(self) -> dict[str, tuple[str, ...]]:
        """A list of classes that are their own labels, or a table class → labels; or those of all bindings."""
        bound = [label for part in self.bindings() for label in part.classes]
        if len({*bound}) < len(bound):
            twice = next(label for label in bound if bound.count(label) > 1)
            raise self.wrong("bindings", f"expected every class once, got {twice!r} twice")
        if bound:
            return {label: (label,) for label in bound}
        if isinstance(self.raw.get("classes", {}), list):
            return {label: (label,) for label in self.checked_texts("classes", self.raw["classes"])}
        return self.lists("classes")

    def debias(self) -> TargetShares:
        if "debias" not in self.raw:
            return TargetShares()
        table = self.table("debias", self.raw["debias"])
        shares = self.table("debias.wanted", table.get("wanted"))
        attribute = table.get("attribute")
        if not isinstance(attribute, str) or not attribute:
            raise self.wrong("debias.attribute", f"expected the name of an attribute, got {attribute!r}")
        if (
            not all(isinstance(share, float) and 0 < share <= 1 for share in shares.values())
            or sum(shares.values()) > 1.001
        ):
            raise self.wrong("debias.wanted", f"expected shares above 0 that sum to at most 1.0, got {shares}")
        return TargetShares(attribute, shares)

    def value(self, key: str, default: Any) -> Any:
        if key not in self.raw and default is ...:
            raise self.wrong(key, "missing")
        return self.raw.get(key, default)

    def table(self, key: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(key, f"expected a table, got {value!r}")
        return value

    def checked_texts(self, key: str, value: Any) -> tuple[str, ...]:
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(text, str) and text.strip() for text in value)
        ):
            raise self.wrong(key, f"expected a list of texts, got {value!r}")
        return tuple(value)

    def wrong(self, key: str, what: str) -> EditkitError:
        return EditkitError(f"suite {self.path}, {key}: {what}")
