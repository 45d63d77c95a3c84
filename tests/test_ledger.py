"""A ledger gives what all its concepts give together, whatever came and went before, and says what contradicts it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import editkit
from editkit.edits.compose import scale
from editkit.edits.uce import UCE
from editkit.erasure.ledger.entries import LedgerEntry
from editkit.erasure.ledger.file import ledger_text
from editkit.erasure.ledger.ledger import Ledger
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model
from editkit.redteam.recipe import Recipe
from tests.cli import run

EMPTY = Ledger("emoji", "0" * 64, {"method": "uce"})
CONCEPTS = [concept for concept in editkit.models()[0]["concepts"] if concept not in ("house", "castle")][:20]
GUIDES = ("house", "castle", " ")


@pytest.fixture(scope="module")
def model() -> EditableModel:
    """The bundled model, which protects so few words that a solve takes no time."""
    whole = open_model("emoji")
    few = {"words": tuple(whole.own_words()[-55:]), "examples": None, "templates": ("a {}",), "measures_damage": False}
    return open_model("emoji", profile=replace(whole.profile, **few))


@pytest.fixture(scope="module")
def begun(model: EditableModel) -> Ledger:
    return Ledger.begin(model, method="uce", protect="prior")


def entry(concept: str) -> LedgerEntry:
    return LedgerEntry(concept, GUIDES[len(concept) % 3])


def with_all(ledger: Ledger, *concepts: str) -> Ledger:
    for concept in concepts:
        ledger = ledger.add(entry(concept))
    return ledger


def text_of(ledger: Ledger) -> str:
    return ledger_text(ledger.header, ledger.entries)


def same_bits(first: editkit.Edit, other: editkit.Edit) -> bool:
    return first.map.U.equal(other.map.U) and first.map.V.equal(other.map.V)


def apart(first: editkit.Edit, other: editkit.Edit) -> float:
    change = other.map.U @ other.map.V
    return float((first.map.U @ first.map.V - change).norm() / change.norm())


def test_any_order_of_adds_gives_the_same_bits(model: EditableModel, begun: Ledger) -> None:
    solved = []
    for seed in range(3):
        concepts = random.Random(seed).sample(CONCEPTS, 20)
        solved.append(with_all(begun, *concepts).solve(model))
        model.encoder.encode_words([f"a {concept}" for concept in concepts[:3]])  # what came before must not matter
    assert same_bits(solved[0], solved[1]) and same_bits(solved[0], solved[2])
    assert solved[0].record["concepts"] == sorted(CONCEPTS)


@pytest.mark.parametrize("protect", ["prior", "none"])
def test_what_is_withdrawn_leaves_no_bit(model: EditableModel, protect: str) -> None:
    begun = Ledger.begin(model, method="uce", protect=protect)
    ledger = with_all(begun, *CONCEPTS)
    for concept in random.Random(5).sample(CONCEPTS[:10], 10):
        ledger = ledger.withdraw(concept)
    never = with_all(begun, *CONCEPTS[10:])
    assert text_of(ledger) == text_of(never)
    solved = ledger.solve(model)
    assert same_bits(solved, never.solve(model))
    order = sorted(CONCEPTS[10:], reverse=protect == "none")
    guides = [str(entry(concept).guide) for concept in order]
    plain = editkit.erase(model.fresh(), order, guides, options=editkit.Options("uce", protect=protect))
    assert apart(solved, plain) < 1e-9


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(CONCEPTS[:6]))))
def test_any_script_ends_where_its_set_begins(script: list[tuple[bool, str]]) -> None:
    ledger, kept = EMPTY, set[str]()
    for is_add, concept in script:
        if is_add and concept not in kept:
            ledger, kept = ledger.add(entry(concept)), kept | {concept}
        elif not is_add and concept in kept:
            ledger, kept = ledger.withdraw(concept.upper()), kept - {concept}
    assert text_of(ledger) == text_of(with_all(EMPTY, *kept))


def test_one_change_costs_one_solve(model: EditableModel, begun: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    solved, solve = [], UCE.solve
    monkeypatch.setattr(UCE, "solve", lambda self, problem: solved.append(1) or solve(self, problem))
    ledger = with_all(begun, *CONCEPTS)
    assert not solved
    ledger.withdraw(CONCEPTS[0]).solve(model)
    assert len(solved) == 1


def test_notes_change_one_line_and_no_edit(begun: Ledger) -> None:
    ledger = with_all(begun, "dog", "church")
    noted = ledger.add(replace(entry("dog"), who="a kennel", why="ticket 7", when="2026-11-29"), force=True)
    before, after = text_of(ledger).splitlines(), text_of(noted).splitlines()
    assert [n for n, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]] == [2]
    assert noted.sha256 == ledger.sha256 != ledger.withdraw("dog").sha256


def test_chains_of_guides_end_where_nothing_is_erased(model: EditableModel, begun: Ledger) -> None:
    """An article does not matter; and a chapel is erased with the church, which only the model knows."""
    ledger = begun.add(LedgerEntry("dog", "The Taxi")).add(LedgerEntry("axe", "chapel"))
    assert ledger.resolved == {}
    ledger = ledger.add(LedgerEntry("taxi", "church")).add(LedgerEntry("church", "house"))
    assert ledger.resolved == {"dog": "house", "taxi": "house"}
    record = ledger.solve(model).record
    assert record["synonyms"]["church"] == ["chapel"]
    assert dict(zip(record["concepts"], record["guides"], strict=True)) == dict.fromkeys(record["concepts"], "house")
    assert record["ledger"] == {"sha256": ledger.sha256, "resolved": dict.fromkeys(("axe", "dog", "taxi"), "house")}
    assert ledger.withdraw("church").resolved == {"dog": "church"}
    circle = begun.add(LedgerEntry("church", "axe")).add(LedgerEntry("axe", "chapel"))
    with pytest.raises(EditkitError, match="axe → church → axe are a cycle"):
        circle.solve(model)


def test_the_default_guide_ends_a_chain(model: EditableModel, begun: Ledger) -> None:
    record = begun.add(LedgerEntry("dog", "taxi")).add(LedgerEntry("taxi")).solve(model).record
    assert record["guides"] == ["average", "average"] and record["ledger"]["resolved"] == {"dog": "average"}


def test_a_word_goes_with_the_entry_that_names_it(model: EditableModel, begun: Ledger) -> None:
    ledger = begun.add(LedgerEntry("dog", "house", ("taxi", "axe"))).add(LedgerEntry("church", "castle"))
    edit = ledger.solve(model)
    assert edit.record["synonyms"] == {"church": ["chapel"], "dog": ["puppy", "axe", "taxi"]}
    again = Recipe.of(edit, model, None, ()).made({})
    assert apart(again, edit) < 1e-5
    with pytest.raises(EditkitError, match="synonyms of 'cat': it is not erased; expected one of dog"):
        editkit.erase(model, ["dog"], synonym={"cat": ["church"]})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: with_all(EMPTY, "dog", "The  Dog"), "concept 'The Dog' is in the ledger already"),
        (lambda: with_all(EMPTY, "dog", "dog"), "'dog' is in the ledger already; withdraw it first, or .* --force"),
        (
            lambda: with_all(EMPTY, "cat").add(LedgerEntry("dog", synonyms=("cat",))),
            "'cat' is a synonym in the entry 'dog', and an entry of",
        ),
        (
            lambda: EMPTY.add(LedgerEntry("dog", synonyms=("cat",))).add(entry("cat")),
            "'cat' is a synonym in the entry 'dog', and an entry of",
        ),
        (lambda: EMPTY.add(LedgerEntry("dog", "Dog")), "'dog' becomes 'Dog', itself; give it another guide"),
        (
            lambda: EMPTY.add(LedgerEntry("a", "b")).add(LedgerEntry("b", "c")).add(LedgerEntry("c", "a")),
            "a → b → c → a are a cycle, and all are erased: .* another guide",
        ),
        (lambda: replace(EMPTY, preserve=("a dog",)).add(entry("dog")), "'a dog' is to be preserved, and erased with"),
        (lambda: replace(with_all(EMPTY, "dog"), preserve=("dog",)), "take it out of `preserve` on the first line"),
        (lambda: with_all(EMPTY, "dog").withdraw("dogg"), "'dogg': is not in the ledger; did you mean dog"),
        (lambda: EMPTY.withdraw("dog"), "`editkit ledger show` lists what is"),
        (lambda: EMPTY.add(LedgerEntry("dog", synonyms=("cat",))).withdraw("cat"), "a synonym in the entry 'dog'"),
        (lambda: EMPTY.solve(), "the ledger has no entry, so there is nothing to erase; add a concept"),
        (lambda: with_all(EMPTY, "dog").solve("emoji"), "has another text encoder than emoji"),
        (lambda: LedgerEntry(" "), "concept: expected a word or phrase, got none"),
        (lambda: LedgerEntry("dog", who=3), "who: expected a text, got 3"),  # pyright: ignore[reportArgumentType]
        (lambda: LedgerEntry("dog", synonyms=("",)), "synonyms: expected a list of texts"),
        (lambda: LedgerEntry("dog", who="\udcff"), "expected text that UTF-8 can hold"),
    ],
)
def test_contradictions_are_named(make: Callable[[], object], told: str) -> None:
    with pytest.raises(EditkitError, match=told) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_what_a_model_knows_contradicts_too(model: EditableModel, begun: Ledger) -> None:
    ledger = replace(begun, preserve=("a chapel",)).add(LedgerEntry("church"))
    with pytest.raises(EditkitError, match="'a chapel' is to be preserved, and means the same as 'church'"):
        ledger.solve(model)
    with pytest.raises(EditkitError, match="options of the ledger: --lamb: expected a finite number"):
        replace(begun, options={**begun.options, "lamb": -1}).add(LedgerEntry("church")).solve(model)


HEADER = json.dumps({"editkit_ledger": 1, **EMPTY.header})
DOG = '{"concept": "dog"}'


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "expected a text file, but the file is empty"),
        (["", " "], "expected a ledger, but its first line has no 'editkit_ledger'; give another file"),
        ([DOG], "expected a ledger, but its first line has no 'editkit_ledger'"),
        ([HEADER, "dog"], "line 2: expected one JSON object (Expecting value); mend the line"),
        ([HEADER, DOG, "[1]"], "line 3: expected one JSON object, got '[1]'; mend the line"),
        ([HEADER, '{"concept": "dog", "concept": "cat"}'], "line 2: .*the key 'concept' is there twice"),
        ([HEADER, "<<<<<<< mine", DOG], "line 2: a mark of a merge conflict; keep the entries of both sides"),
        ([HEADER, '{"concept": "dog", "guid": "cat"}'], "line 2: no such key 'guid'; did you mean guide? known are"),
        ([HEADER, '{"guide": "cat"}'], "line 2: expected 'concept', which is not there; add it"),
        ([HEADER, '{"concept": 3}'], "line 2: concept: expected a text, got 3"),
        ([HEADER, '{"concept": "dog", "found": "a"}'], "line 2: found: expected a list of texts, got 'a'; mend it"),
        ([HEADER, DOG, "", '{"concept": "DOG"}'], "line 4: concept 'DOG' is on line 2, too; keep one of them"),
        ([HEADER, '{"concept": "a", "guide": "b"}', '{"concept": "b", "guide": "a"}'], "a → b → a are a cycle"),
        ([HEADER.replace(": 1,", ": 2,")], "line 1: a ledger of version 2, expected 1; update editkit"),
        ([HEADER.replace('"preserve"', '"preserved"')], "line 1: no such key 'preserved'; did you mean preserve?"),
        ([HEADER.replace('"erase"', '"keep"')], "line 1: synonyms: expected erase or leave, got 'keep'; mend it"),
        ([HEADER.replace('"method": "uce"', "")], "line 1: options: expected a method, got None; name one of"),
        ([HEADER.replace('"emoji"', "null")], "line 1: model: expected a text, got None; mend it"),
    ],
)
def test_a_file_that_is_wrong_says_where_and_what_to_do(lines: list[str], told: str, tmp_path: Path) -> None:
    path = tmp_path / "concepts.ledger"
    path.write_text("".join(f"{line}\n" for line in lines))
    said = run("ledger", "show", path, cwd=tmp_path, code=1)
    assert said.startswith(f"error: {path}") and said.count("\n") == 1
    before, _, after = told.partition(".*")
    assert before in said and after in said


def test_what_is_written_is_read_again(tmp_path: Path, begun: Ledger) -> None:
    full = LedgerEntry("教会", "house", ("chapel",), ("a tall\nhouse",), "someone", "why not", "2026-11-29")
    ledger = replace(begun, preserve=("a", " ")).add(full).add(entry("dog"))
    ledger.write(tmp_path / "concepts.ledger")
    assert Ledger.read(tmp_path / "concepts.ledger") == ledger == editkit.ledger(tmp_path / "concepts.ledger")
    with pytest.raises(EditkitError, match="is not overwritten"):
        ledger.write(tmp_path / "concepts.ledger")


def test_verify_accepts_what_it_gives_and_names_what_differs(
    model: EditableModel, begun: Ledger, tmp_path: Path
) -> None:
    ledger = begun.add(LedgerEntry("dog", "house")).add(LedgerEntry("church", "castle"))
    editkit.save_edit(ledger.solve(model), tmp_path / "all.safetensors")
    edit = editkit.load_edit(tmp_path / "all.safetensors")
    assert isinstance(edit, editkit.Edit)
    verdict = ledger.verify(edit, model)
    assert verdict.same and verdict.apart is not None and verdict.apart < 1e-6

    def differs(ledger: Ledger, edit: editkit.Edit = edit) -> str:
        (told,) = ledger.verify(edit, model).differences
        return told

    assert differs(ledger.withdraw("dog")) == "it erases dog, which is not in the ledger"
    assert differs(with_all(ledger, "axe", "taxi")) == "it does not erase axe, taxi"
    assert differs(replace(ledger, preserve=("a cat",))) == "it preserves nothing, not a cat"
    assert differs(replace(ledger, options={**ledger.options, "lamb": 0.1})) == "--lamb is 0.0001 in it, not 0.1"
    assert differs(replace(ledger, text_encoder_sha256="0")) == "it was made with another text encoder"
    other = ledger.add(LedgerEntry("dog", "castle"), force=True)
    assert "dog becomes house in it, not castle" in other.verify(edit, model).differences
    forged = replace(edit, maps=scale(edit, 0.9).maps)
    assert differs(ledger, forged) == "its map is apart by 0.1 of the change, more than 0.0001"
    assert ledger.verify(forged, model, within=0.2).same
    longer = replace(edit, maps={"*": editkit.EditMap(torch.zeros(4, 1).double(), torch.zeros(1, 4).double())})
    assert differs(ledger, longer) == "it changes other weights"


def test_a_ledger_as_it_is_typed(tmp_path: Path) -> None:
    def ledger(*words: str, code: int = 0) -> str:
        return run("ledger", *words, cwd=tmp_path, code=code)

    how = ("--method", "uce", "--protect", "none", "--tokens", "last", "--preserve", "a cat")
    first = ("add", "concepts.ledger", "--concept", "church", "--guide", "house", "--who", "a diocese")
    assert ledger(*first, *how, "--when", "2026-11-29") == "concepts.ledger: church added, 1 concept\n"
    said = ledger("add", "concepts.ledger", "--concept", "dog", "--guide", "church", "--synonym", "taxi")
    assert said.endswith("2 concepts\ndog becomes house, since church is erased, too\n")
    again = ("add", "concepts.ledger", "--concept", "axe")
    for more, told in (
        (("--lamb", "3"), "--lamb: the ledger was begun with 0.5, but got 3.0; leave it out"),
        (("--method", "rece"), "--method: the ledger was begun with uce, but got rece"),
        (("--epochs", "2"), "--epochs: method uce of the ledger has no such option"),
        (("--preserve", "a dog"), "--preserve: the ledger was begun with a cat, but got a dog"),
        (("--concept", "Church"), "concept"),
    ):
        assert told in ledger(*again, *more, code=1)
    ledger(*again, "--method", "uce", "--lamb", "0.5", "--preserve", "a cat", "--model", "emoji")
    shown = json.loads(ledger("show", "concepts.ledger", "--json"))
    assert [each["concept"] for each in shown["entries"]] == ["axe", "church", "dog"]
    assert shown["entries"][1] == {"concept": "church", "guide": "house", "who": "a diocese", "when": "2026-11-29"}
    assert shown["resolved"] == {"dog": "house"} and shown["options"]["tokens"] == "last"
    assert "church → house" in ledger("show", "concepts.ledger")
    said = ledger("solve", "concepts.ledger", "--out", "all.safetensors")
    assert "dog becomes house, since its guide is erased, too" in said
    assert "all.safetensors is what concepts.ledger gives: 3" in ledger("verify", "concepts.ledger", "all.safetensors")
    assert "did you mean axe" in ledger("withdraw", "concepts.ledger", "ax", code=1)
    said = ledger("withdraw", "concepts.ledger", "church", "axe")
    assert said == "concepts.ledger: church, axe withdrawn, 1 concept\ndog becomes church again\n"
    said = ledger("verify", "concepts.ledger", "all.safetensors", code=1)
    assert said.count("\n") == 1 and "it erases axe, church, which are not in the ledger" in said
    assert "exists and is not overwritten" in ledger("solve", "concepts.ledger", "--out", "all.safetensors", code=1)
    ledger("withdraw", "concepts.ledger", "dog")
    assert "has no entry" in ledger("solve", "concepts.ledger", code=1)
    assert "no such ledger; begin one" in ledger("show", "other.ledger", code=1)
    assert "withdraw" in ledger("--help")
