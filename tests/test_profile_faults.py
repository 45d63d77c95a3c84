"""Faulty profiles are refused with the key, and a value that cannot be with the profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from editkit.drawing.sampling import Sampling
from editkit.errors import EditkitError
from editkit.evaluation.scores import score_for
from editkit.model.checkpoints.source import Source, find
from editkit.model.editable import open_model
from editkit.tuning.options import RefineOptions


def refining(objective: str, source: Source, **given: Any) -> RefineOptions:
    return RefineOptions.of(objective, source.profile, **given)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("words = [", r"bad.toml: expected TOML"),
        ("wordz = ['a']", r"bad.toml, wordz: no such key; did you mean words\? known are name, words"),
        ("words = []", r"words: expected a list of texts or the path of a file with one word a line, got \[\]"),
        ("words = ['a', 3]", r"words: expected a list of texts or the path .*, got \['a', 3\]"),
        ("words = 'none.txt'", r"words: no such file: .*none.txt; paths are relative to the profile"),
        ("words = 'empty.txt'", r"words: .*empty.txt: expected a word a line, found only blank lines and comments"),
        ("words = 7", r"words: expected a list of texts or the path of a file with one word a line, got 7"),
        ("words = ['a']\nexamples = ['b']", r"examples: expected some of the words, but 'b' is not among them"),
        ("templates = 'a {}'", r"templates: expected a list of texts, got 'a \{\}'"),
        ("templates = ['a church']", r"templates: expected one '\{\}' where the concept goes, got 'a church'"),
        ("vocabulary_templates = ['{} {}']", r"vocabulary_templates: expected one '\{\}'"),
        ("vocabulary_turns = 'a {}'", r"vocabulary_turns: expected a list of lists of texts, got 'a \{\}'"),
        ("vocabulary_turns = [['a {}', 'a']]", r"vocabulary_turns: expected one '\{\}'"),
        ("styles = 3", r"styles: expected a list of texts or the path of a file with one word a line, got 3"),
        ("style_templates = ['in oil']", r"style_templates: expected one '\{\}'"),
        ("measures_damage = 1", r"measures_damage: expected true or false, got 1"),
        ("name = ''", r"name: expected a text, got none"),
        ("synonyms = ['a']", r"synonyms: expected a table, got \['a'\]"),
        ("synonyms.church = 'chapel'", r"synonyms.church: expected a list of texts, got 'chapel'"),
        ("hypernyms.animal = [1]", r"hypernyms.animal: expected a list of texts, got \[1\]"),
        ("judge = 'emoji-judge'", r"judge: expected a table, got 'emoji-judge'"),
        ("judge.options = {}", r"judge.name: missing; name a detector"),
        ("judge = { name = 'resnet50', option = {} }", r"judge.option: no such key; did you mean options\?"),
        ("judge = { name = 'resnet50', options = { weights = 'no.pt' } }", r"judge.options.weights: no such file"),
        (
            "judge = { name = 'resnet50', options.top = { a = 1 } }",
            r"judge.options.top: expected a text, a number, true",
        ),
        ("judge = { name = 'resnet50', labels = { dog = 'Labrador' } }", r"judge.labels.dog: expected a list of texts"),
        ("sampling.step = 3", r"sampling.step: no such key; did you mean steps\?"),
        ("sampling.steps = 3.5", r"sampling.steps: expected a whole number, got 3.5"),
        ("sampling.steps = true", r"sampling.steps: expected a whole number, got True"),
        ("sampling.guidance = nan", r"sampling.guidance: expected a number, got nan"),
        ("sampling.size = 512", r"sampling.size: expected a text, got 512"),
        ("sampling.size = 'large'", r"sampling.size: expected WIDTHxHEIGHT such as '512x768', got 'large'"),
        ("refine.batch = { a = 4 }", r"refine.batch: expected a text, a number, true, false or a list, got \{"),
        ("refine.templates = ['x']", r"refine.templates: expected one '\{\}'"),
        ("refine.rates.esd = 'fast'", r"refine.rates.esd: expected a number, got 'fast'"),
    ],
)
def test_a_faulty_profile_is_refused_with_the_key(text: str, says: str, tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(EditkitError, match=says):
        open_model(tiny_sd, profile=tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("text", "use", "says"),
    [
        ("sampling.steps = 0", lambda source: Sampling.for_model(source, steps=3), "x, sampling: .*at least 1, got 0"),
        ("sampling.scheduler = 'heun'", Sampling.for_model, "profile x, sampling: .*expected one of ddim, euler"),
        (
            "refine.rates.esb = 1e-4",
            lambda source: refining("ap", source),
            "profile x, refine: objective 'esb': did you",
        ),
        ("refine.rate = -1", lambda source: refining("ap", source, rate=1.0), "profile x, refine: .*above 0"),
        ("refine.rat = 1e-4", lambda source: refining("ap", source), "refine: --rat: .*; did you mean --rate"),
        (
            "refine.batch = '4'",
            lambda source: refining("ap", source),
            "refine: --batch: expected a whole number .*, got 4",
        ),
        ("refine.param = 4", lambda source: refining("ap", source), "refine: --param: expected a text, got 4"),
        ("refine.tau = 0", lambda source: refining("esd", source), "profile x, refine: --tau: .*above 0, got 0"),
        ("judge.name = 'judge'", score_for, "profile x, judge: detector 'judge': did you mean emoji-judge"),
        ("judge = { name = 'emoji-judge', options = { size = 3 } }", score_for, "profile x, judge: .*'size'; its opt"),
    ],
)
def test_a_value_that_cannot_be_is_the_profiles(text: str, use: Any, says: str, tiny_sd: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(EditkitError, match=says):
        use(find(tiny_sd, profile=tmp_path / "x.toml"))


def test_a_profile_that_is_not_there_is_said_before_the_model(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match=r"profile .*none.toml: cannot be read .*; check the path"):
        find("nobody/no-such-model", profile=tmp_path / "none.toml")
