"""`erase` and `edit` as a Python user calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from editkit.concepts.vocabulary import SYNONYM_LIKENESS, common_words
from editkit.edits.method import Options
from editkit.emoji.catalogue import catalogue
from editkit.erasure.edit import edit as change
from editkit.erasure.erase import erase
from editkit.erasure.near import likeness
from editkit.erasure.words import words_to_protect
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel, open_model


@pytest.fixture(scope="module")
def emoji() -> EditableModel:
    return open_model("emoji")


def subject(model: EditableModel, word: str, map_of: Any = None) -> torch.Tensor:
    """The subject row of "a WORD", through an edit's map."""
    row = model.encoder.encode([f"a {word}"])[0][model.encoder.subject_at("a {}", word)]
    return row if map_of is None else map_of.map.embeddings(row)


def test_the_published_edit_of_a_random_model_can_be_had(tiny_sd: Path) -> None:
    options, model = Options("rece", protect="none"), open_model(tiny_sd)
    with pytest.raises(EditkitError, match=r"the mean of 32 common words would change by 3\.\d+ of its size"):
        erase(model, ["church"], options=options)
    with pytest.warns(UserWarning, match="blows up"):
        assert erase(model, ["church"], options=options, checked=False).record["figures"]["damage_words"] == 32


def test_what_blows_up_is_refused_unless_it_is_asked_for(emoji: EditableModel) -> None:
    wild = Options("uce", protect="none", tokens="all", lamb=1e-6)
    refused = (
        r"the mean of 2\d\d common words would change by .* allowed is 1; use a larger --lamb .*or give --unchecked"
    )
    with pytest.raises(EditkitError, match=refused):
        erase(emoji, ["church", "dog"], options=wild)
    with pytest.warns(UserWarning, match="the edit blows up: the mean of"):
        made = erase(emoji, ["church", "dog"], options=wild, checked=False)
    assert made.record["checked"] is False and made.record["figures"]["damage_mean"] > 1


def test_the_concept_moves_and_the_others_stay(emoji: EditableModel) -> None:
    made = erase(emoji, ["church"])
    moved = (subject(emoji, "church", made) - subject(emoji, "church")).norm() / subject(emoji, "church").norm()
    stayed = (subject(emoji, "dog", made) - subject(emoji, "dog")).norm() / subject(emoji, "dog").norm()
    assert moved > 5 * stayed
    assert made.record["figures"]["erasure_residual"] < 0.6


def test_protection_lowers_the_damage(emoji: EditableModel) -> None:
    damage = {}
    for protect in ("none", "prior", "minimax"):
        options = Options("uce", protect=protect, tokens="tail", lamb=1e-3)
        guide = ["average"]
        damage[protect] = erase(emoji, ["church", "dog"], guide, options=options, checked=False).record["figures"]
    assert damage["prior"]["damage_mean"] < damage["none"]["damage_mean"]
    assert damage["minimax"]["damage_worst"] < damage["prior"]["damage_worst"]


def test_synonyms_and_members_are_not_protected(emoji: EditableModel) -> None:
    words = words_to_protect(emoji, ["church", "weapon"], ["average"])
    assert not {"church", "chapel", "weapon", "dagger", "axe", "hatchet"} & set(words)
    assert {"mosque", "hot dog", "hammer"} <= set(words)


@pytest.mark.parametrize(
    ("concept", "same"),
    [
        ("church", {"chapel"}),
        ("axe", {"hatchet"}),
        ("dog", set()),
        ("weapon", set()),
        ("pizza", set()),
        ("fish", set()),
    ],
)
def test_synonyms_are_measured_against_neighbours(emoji: EditableModel, concept: str, same: set[str]) -> None:
    """By cosine alone "dog" is near "brain", "pig" and "mushroom", as they are near many."""
    words = list(catalogue().words())
    likenesses = likeness(emoji.encoder, words, [concept], emoji.gram)[:, 0]
    assert {
        word for word, value in zip(words, likenesses.tolist(), strict=True) if value > SYNONYM_LIKENESS
    } == same | {concept}
    assert likenesses[words.index(concept)] == pytest.approx(1, abs=1e-6)
    if not same:
        assert {"brain", "pig", "mushroom", "church"} <= set(words_to_protect(emoji, [concept], []))


def test_a_short_list_is_protected_as_it_is_given(emoji: EditableModel) -> None:
    assert words_to_protect(emoji, ["church"], ["dog"], ["chapel", "house", "dog", "mosque"]) == ["house", "mosque"]


def test_nearest_names_a_word_it_found(emoji: EditableModel) -> None:
    made = erase(emoji, ["church"], ["nearest"])
    assert made.record["guides"][0] in words_to_protect(emoji, ["church"], [])


def test_preserved_prompts_move_less(emoji: EditableModel) -> None:
    options = Options("uce", protect="none", tokens="all", lamb=0.1)
    plain = erase(emoji, ["church"], [" "], options=options)
    kept = erase(emoji, ["church"], [" "], ["a mosque"], options)
    still, moved = (float((subject(emoji, "mosque", edit) - subject(emoji, "mosque")).norm()) for edit in (kept, plain))
    assert still < 0.2 * moved


def test_time_moves_the_source_to_the_destination(emoji: EditableModel) -> None:
    made = change(emoji, "a rose", "a tulip")
    wanted, was = subject(emoji, "tulip"), subject(emoji, "rose")
    assert (subject(emoji, "rose", made) - wanted).norm() < 0.2 * (was - wanted).norm()


def test_an_edit_is_deterministic(emoji: EditableModel) -> None:
    first, second = (erase(emoji, ["church"]) for _ in range(2))
    assert first.map.U.equal(second.map.U) and first.map.V.equal(second.map.V)


def test_many_concepts_with_a_guide_each(emoji: EditableModel) -> None:
    made = erase(emoji, ["church", "dog"], ["castle", "cat"], options=Options("uce", protect="none"))
    for concept, guide in (("church", "castle"), ("dog", "cat")):
        at = subject(emoji, concept, made)
        assert (at - subject(emoji, guide)).norm() < (at - subject(emoji, concept)).norm()


def test_common_words_protect_a_real_checkpoint(tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITKIT_CACHE", str(tmp_path))
    first = erase(open_model(tiny_sd), ["nudity"])
    assert first.record["figures"]["damage_worst"] is not None
    assert len(common_words()) > 2_500
    kept = list(tmp_path.glob("words-*.safetensors"))
    assert kept
    again = erase(open_model(tiny_sd), ["nudity"])
    assert again.map.U.equal(first.map.U)
    for path in kept:
        path.write_bytes(b"broken")
    assert erase(open_model(tiny_sd), ["nudity"]).map.U.equal(first.map.U)


def test_a_vocabulary_that_leaves_nothing_is_an_error(emoji: EditableModel) -> None:
    with pytest.raises(EditkitError, match="vocabulary"):
        erase(emoji, ["church"], vocabulary=["church", "chapel"])


def test_short_sequences_give_the_same_rows(emoji: EditableModel) -> None:
    (whole,), (cut,) = emoji.encoder.encode(["a church"]), emoji.encoder.encode_each(["a church"], 3)
    assert len(cut) == emoji.encoder.rows_in("a church") + 3 < len(whole)
    assert torch.allclose(whole[: len(cut)].float(), cut, atol=1e-5)


def test_a_prompt_that_is_too_long_is_named(emoji: EditableModel) -> None:
    with pytest.raises(EditkitError, match="tokens, but this text encoder reads 24; shorten it"):
        change(emoji, "a church " * 20, "a castle")
