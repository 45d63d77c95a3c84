"""A profile as a TOML file: `--profile FILE.toml`. What it leaves out is as the model's own profile has it, for most
models the default.

    words                 a list, or the path of a file with one word a line: what edits protect, searches look among
                          and damage is told of
    examples              those of `words` that example prompts may name (list or file)
    knows                 every word that a prompt may hold (list or file); a concept with another word is refused
    templates             sentences in which a concept is erased, `{}` in the place of the concept
    vocabulary_templates  sentences in which the vocabulary is protected; each costs a run of all words
    vocabulary_turns      lists of further sentences: each word is protected in one of each list
    styles                words that say how a thing is drawn, not what (list or file): they are erased as styles
    style_templates       sentences in which a style is erased, and the other styles are protected
    prediction            of a single-file checkpoint: "epsilon" or "v_prediction", where the file does not say it
    measures_damage       true: tell of unprotected edits, too, what they damage
    [synonyms]            word = [others that are taught as the same]: they are not protected when it is erased
    [hypernyms]           word = [the words that it stands for]
    [judge]               name: a detector, who looks at pictures where neither suite nor user names one
    [judge.options]       of the detector; `weights` and `folder` are paths
    [judge.labels]        word = [what the judge calls it]
    [sampling]            steps, guidance, negative, scheduler, size ("512x768"), batch, true_cfg,
                          compile, dtype, storage, offload, tile_vae, quantize
    [refine]              templates, and options of `editkit refine` by their names in Python: batch, rate, ...
    [refine.rates]        objective = learning rate

Paths are relative to the file. `name` is what records call the profile, by default the file's name. Example:

>>> from pathlib import Path
>>> profile = parse_profile('''
... name = "birds"
... words = ["heron", "egret", "stork", "bird", "owl"]
... templates = ["{}", "a photo of a {}"]
... measures_damage = true
...
... [synonyms]
... heron = ["egret"]
...
... [hypernyms]
... bird = ["heron", "stork", "owl"]
...
... [judge]
... name = "imagenet-lite"
...
... [judge.options]
... batch = 16
...
... [judge.labels]
... heron = ["little blue heron", "American egret"]
...
... [sampling]
... steps = 30
... guidance = 5.0
... size = "512x512"
...
... [refine]
... batch = 4
... rate = 2e-5
... templates = ["{}", "a {} by a lake"]
...
... [refine.rates]
... esd = 1e-5
... ''', Path("birds.toml"))
>>> profile.name, profile.taught_as_same(["heron"]), profile.labels_of("an egret")
('birds', ['heron', 'egret'], ('little blue heron', 'American egret'))
>>> dict(profile.sampling)
{'steps': 30, 'guidance': 5.0, 'size': '512x512'}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from editkit.concepts.profile import DEFAULT, PREDICTIONS, Judge, Profile, RefineDefaults
from editkit.concepts.vocabulary import read_word_file, single_words
from editkit.errors import EditkitError
from editkit.files.text.toml import TomlReader, parse_toml, read_text

WHAT = "profile"
SAMPLING = {
    "steps": int, "guidance": float, "negative": str, "scheduler": str, "size": str, "batch": int, "true_cfg": float,
    "compile": bool, "dtype": str, "storage": str, "offload": str, "tile_vae": bool, "quantize": str,
}  # fmt: skip
"""What a profile may say of `editkit.drawing.sampling.Settings`."""
TOP = (
    "name", "words", "examples", "knows", "templates", "vocabulary_templates", "vocabulary_turns", "styles",
    "style_templates", "measures_damage", "synonyms", "hypernyms", "judge", "prediction", "sampling", "refine",
)  # fmt: skip
KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
PATHS = ("folder", "weights")
"""Options of detectors that name files."""


def read_profile(path: Path, base: Profile = DEFAULT) -> Profile:
    """The profile in a file; what it leaves out is as in `base`.

    Raises:
        EditkitError: the file cannot be read, or a key is unknown or has a wrong value.
    """
    return parse_profile(read_text(path, WHAT), path, base)


def parse_profile(text: str, path: Path, base: Profile = DEFAULT) -> Profile:
    """The same from the text of the file. `path` names it in errors, and is where its paths start.

    Raises:
        EditkitError: as `read_profile`.
    """
    return _Reader(path, parse_toml(text, path, WHAT)).profile(base)


class _Reader(TomlReader):
    """Checks one file; every error names it and the key."""

    what = WHAT

    def profile(self, base: Profile) -> Profile:
        raw = self.raw
        self.known("", raw, TOP)
        said: dict[str, Any] = {"name": self.value("name", raw.get("name", self.path.stem), str)}
        if "words" in raw:
            said |= {"words": self.words("words"), "examples": None}
        if "examples" in raw:
            said["examples"] = self.examples(said.get("words", base.words))
        if "knows" in raw:
            said["knows"] = frozenset(single_words(self.words("knows")))
            said["advice"] = f"the profile {self.path} lists what it knows"
        if "styles" in raw:
            said["styles"] = self.words("styles")
        for key in ("templates", "vocabulary_templates", "style_templates"):
            if key in raw:
                said[key] = self.templates(key, raw[key])
        if "vocabulary_turns" in raw:
            said["vocabulary_turns"] = self.turns(raw["vocabulary_turns"])
        if "measures_damage" in raw:
            said["measures_damage"] = self.value("measures_damage", raw["measures_damage"], bool)
        if "prediction" in raw:
            said["prediction"] = self.prediction(raw["prediction"])
        for key in ("synonyms", "hypernyms"):
            if key in raw:
                said[key] = self.lists(key, raw[key])
        if "judge" in raw:
            said["judge"] = self.judge(self.table("judge", raw["judge"]))
        if "sampling" in raw:
            said["sampling"] = {**base.sampling, **self.sampling(self.table("sampling", raw["sampling"]))}
        if "refine" in raw:
            said["refine"] = self.refine(self.table("refine", raw["refine"]), base.refine)
        return replace(base, **said)

    def examples(self, words: tuple[str, ...] | None) -> tuple[str, ...]:
        examples = self.words("examples")
        strange = next((word for word in examples if words is not None and word not in words), None)
        if strange is not None:
            raise self.wrong("examples", f"expected some of the words, but {strange!r} is not among them")
        return examples

    def judge(self, raw: Mapping[str, Any]) -> Judge:
        self.known("judge", raw, ("name", "options", "labels"))
        if "name" not in raw:
            raise self.wrong("judge.name", "missing; name a detector")
        options = self.table("judge.options", raw.get("options", {}))
        return Judge(
            self.value("judge.name", raw["name"], str),
            {key: self.option(key, value) for key, value in options.items()},
            self.lists("judge.labels", raw.get("labels", {})),
        )

    def prediction(self, value: Any) -> str:
        if value not in PREDICTIONS:
            raise self.wrong("prediction", f"expected {' or '.join(map(repr, PREDICTIONS))}, got {value!r}")
        return value

    def option(self, key: str, value: Any) -> Any:
        """Of a detector, which checks its name and value; here only that it can be."""
        where = f"judge.options.{key}"
        return self.file(where, value) if key in PATHS else self.plain(where, value)

    def plain(self, key: str, value: Any) -> Any:
        if any(type(part) not in KINDS for part in (value if isinstance(value, list) else [value])):
            raise self.wrong(key, f"expected a text, a number, true, false or a list, got {value!r}")
        return value

    def sampling(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        sampling = self.typed("sampling", raw, SAMPLING)
        if not re.fullmatch(r"\d+x\d+", sampling.get("size", "1x1").lower()):
            raise self.wrong("sampling.size", f"expected WIDTHxHEIGHT such as '512x768', got {sampling['size']!r}")
        return sampling

    def refine(self, raw: Mapping[str, Any], base: RefineDefaults) -> RefineDefaults:
        """Of the options only that they can be: objectives and searches, other packages' too, check their own."""
        options = {key: value for key, value in raw.items() if key not in ("templates", "rates")}
        rates = self.table("refine.rates", raw.get("rates", {}))
        own = {} if "rate" in raw else dict(base.rates)
        return RefineDefaults(
            self.templates("refine.templates", raw["templates"]) if "templates" in raw else base.templates,
            {**base.options, **{key: self.plain(f"refine.{key}", value) for key, value in options.items()}},
            own | {key: self.value(f"refine.rates.{key}", rate, float) for key, rate in rates.items()},
        )

    def typed(self, key: str, raw: Mapping[str, Any], kinds: Mapping[str, type]) -> dict[str, Any]:
        self.known(key, raw, tuple(kinds))
        return {name: self.value(f"{key}.{name}", value, kinds[name]) for name, value in raw.items()}

    def words(self, key: str) -> tuple[str, ...]:
        """A list, or the lines of a file."""
        value = self.raw[key]
        if not isinstance(value, str):
            return self.texts(key, value, " or the path of a file with one word a line")
        path = self.file(key, value)
        try:
            return tuple(read_word_file(path))
        except EditkitError as error:
            raise self.wrong(key, str(error)) from error

    def file(self, key: str, value: Any) -> Path:
        path = self.path.parent / Path(self.value(key, value, str)).expanduser()
        if not path.exists():
            raise self.wrong(key, f"no such file: {path}; paths are relative to the profile")
        return path

    def templates(self, key: str, value: Any) -> tuple[str, ...]:
        templates = self.texts(key, value)
        wrong = next((template for template in templates if template.count("{}") != 1), None)
        if wrong is not None:
            raise self.wrong(key, f"expected one '{{}}' where the concept goes, got {wrong!r}")
        return templates

    def turns(self, value: Any) -> tuple[tuple[str, ...], ...]:
        if not isinstance(value, list):
            raise self.wrong("vocabulary_turns", f"expected a list of lists of texts, got {value!r}")
        return tuple(self.templates("vocabulary_turns", group) for group in value)

    def lists(self, key: str, value: Any) -> dict[str, tuple[str, ...]]:
        """A table of lists of texts."""
        return {name: self.texts(f"{key}.{name}", texts) for name, texts in self.table(key, value).items()}

    def texts(self, key: str, value: Any, more: str = "") -> tuple[str, ...]:
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(text, str) and text.strip() for text in value)
        ):
            raise self.wrong(key, f"expected a list of texts{more}, got {value!r}")
        return tuple(dict.fromkeys(value))

    def value(self, key: str, value: Any, kind: type) -> Any:
        """A float may be written as a whole number; nothing else stands for another kind."""
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (kind is float and not math.isfinite(value)):
            raise self.wrong(key, f"expected {KINDS[kind]}, got {value!r}")
        if kind is str and not value.strip() and key != "sampling.negative":
            raise self.wrong(key, "expected a text, got none")
        return value
