"""`--prior`: captions of any number are held where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import editkit
from editkit.edits.method import Options
from editkit.embeddings.cache import ENVIRONMENT
from editkit.erasure.captions import Captions
from editkit.errors import EditkitError
from tests.test_detectors import DATA

WORDS = ["dog", "castle", "guitar", "mosque", "house", "pizza", "giraffe", "umbrella", "tree", "car"]
CAPTIONS = [
    f"a {thing} on a {colour} background" for thing in ("dog", "castle", "guitar") for colour in ("red", "blue")
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))


def test_the_moment_is_the_mean_over_captions_of_the_mean_over_rows() -> None:
    encoder = editkit.open_model("emoji").encoder
    mine, left_out = Captions.of(CAPTIONS).moment([encoder])
    expected = torch.zeros(512, 512, dtype=torch.float64)
    for caption in CAPTIONS:
        rows = encoder.encode([caption])[0][: encoder.rows_in(caption) + encoder.spare]
        for row in rows:
            expected += torch.outer(row, row) / len(rows) / len(CAPTIONS)
    assert left_out == 0
    assert float((mine - expected).norm()) < 1e-5 * float(expected.norm())


def test_what_an_encoder_does_not_read_whole_is_left_out_and_counted(tmp_path: Path) -> None:
    encoder, file = editkit.open_model("emoji").encoder, tmp_path / "captions.txt"
    file.write_text("\n".join([*CAPTIONS, "dog " * 40]) + "\n", encoding="utf-8")
    with_long, left_out = Captions.of(file).moment([encoder])
    without, none = Captions.of(CAPTIONS).moment([encoder])
    assert (left_out, none) == (1, 0) and torch.equal(with_long, without)


def test_a_second_time_it_comes_from_the_disk(tmp_path: Path) -> None:
    encoder, captions = editkit.open_model("emoji").encoder, Captions.of(CAPTIONS)
    first, _ = captions.moment([encoder])
    (stored,) = (tmp_path / "cache").iterdir()
    made = stored.stat().st_mtime_ns
    again, _ = Captions.of(CAPTIONS).moment([encoder])
    assert torch.equal(first, again) and stored.stat().st_mtime_ns == made
    Captions.of(CAPTIONS[:5]).moment([encoder])
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("protect", ["none", "prior", "minimax"])
def test_captions_are_moved_less_the_more_they_weigh(protect: str) -> None:
    model, edits = editkit.open_model("emoji"), []
    plainly = Options("uce", protect=protect, tokens="tail", lamb=1e-3)
    for weight in (0.0, 1.0, 100.0):
        options = replace(plainly, prior_strength=weight)
        edits.append(editkit.erase(model, ["church"], options=options, prior=CAPTIONS, vocabulary=WORDS, checked=False))
    rows = torch.cat(model.encoder.encode_once(CAPTIONS, model.encoder.spare)).double()
    moved = [float((edit.map.embeddings(rows) - rows).norm() / rows.norm()) for edit in edits]
    assert moved[0] > 1.5 * moved[1] > 1.5 * moved[2]
    plain = editkit.erase(
        model, ["church"], options=Options("uce", protect=protect, tokens="tail", lamb=1e-3), vocabulary=WORDS,
        checked=False,
    )  # fmt: skip
    assert torch.allclose(edits[0].map.dense(), plain.map.dense(), atol=1e-9)
    assert edits[1].record["prior"]["captions"] == 6 and "prior" not in plain.record


def test_an_edit_that_holds_captions_is_hardened_with_the_same() -> None:
    edit = editkit.erase("emoji", ["church"], options=Options("uce"), prior=CAPTIONS, vocabulary=WORDS)
    for given, came in ((None, "none"), (CAPTIONS[:5], "others")):
        with pytest.raises(EditkitError, match=f"made with 6 captions, got {came}; give the same with --prior"):
            editkit.harden(edit, "emoji", pictures=0, prior=given, vocabulary=WORDS)
    plain = editkit.erase("emoji", ["church"], options=Options("uce"), vocabulary=WORDS)
    with pytest.raises(EditkitError, match="made without captions"):
        editkit.harden(plain, "emoji", pictures=0, prior=CAPTIONS, vocabulary=WORDS)


@pytest.mark.parametrize(
    ("text", "told"), [("", "the file is empty"), ("prompt,seed\na dog,1\n,2\n", "line 3: the caption is empty")]
)
def test_a_file_without_captions_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "captions.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(EditkitError, match=told):
        editkit.erase("emoji", ["church"], prior=file)


def test_published_captions_are_read_as_they_are() -> None:
    file = DATA / "coco_30k_val.csv"
    if not file.is_file():
        pytest.skip("the captions of COCO are not here")
    assert Captions.of(file).count == 3000


def test_the_tokens_of_the_tokenizer_are_a_vocabulary(tmp_path: Path) -> None:
    from editkit.erasure.words import read_vocabulary

    model = editkit.open_model("emoji")
    words = read_vocabulary(model, "tokens")
    assert words is not None and {"dog", "castle"} <= {*words}
    edit = editkit.erase(model, ["church"], options=Options("uce"), vocabulary=words)
    assert edit.record["figures"]["damage_words"] > 0.8 * len(words)
