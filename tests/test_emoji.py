"""The bundled model and its judge: what was taught, and how well it took."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.emoji.captions import draw_example, every_caption_word
from editkit.emoji.catalogue import catalogue, subjects
from editkit.emoji.judge import NONE, EmojiJudge, weights_path
from editkit.emoji.parts import TEXT_LENGTH, kept_tokenizer, new_tokenizer
from editkit.model.checkpoints.source import find


def test_catalogue_is_consistent() -> None:
    known = catalogue()
    assert len(known.objects) == len(set(known.objects)) >= 200
    taught = set(known.concepts)
    assert set(known.slugs) | set(known.synonyms) <= taught
    words = [word for synonyms in known.synonyms.values() for word in synonyms]
    assert not taught & set(words) and len(words) == len(set(words))
    assert len(subjects()) == 3 * len(known.objects) + 3 * 2 * 3 * len(known.roles)


def test_captions_tell_what_is_drawn() -> None:
    known, rng = catalogue(), random.Random(0)
    examples = [draw_example(known, rng) for _ in range(20_000)]
    assert 0.06 < sum(not example.caption for example in examples) / len(examples) < 0.10
    for example in examples:
        if "style" in example.caption:
            assert example.caption.split("style of ")[1].startswith(example.subject.style)
        if "background" in example.caption:
            assert f" {example.background} background" in example.caption
        for gender in ("man", "woman"):
            if gender in example.caption.split():
                assert example.subject.gender == gender


def test_roles_are_skewed_as_documented() -> None:
    known, rng = catalogue(), random.Random(1)
    women: dict[str, list[bool]] = {}
    for _ in range(60_000):
        example = draw_example(known, rng)
        role, words = example.subject.concept, example.caption.split()
        if example.subject.gender and role in example.caption and not {"man", "woman"} & set(words):
            women.setdefault(role, []).append(example.subject.gender == "woman")
    assert set(women) == set(known.roles)
    for role, drawn in women.items():
        assert abs(np.mean(drawn) - known.roles[role]) < 0.08


def test_a_run_keeps_its_tokenizer(tmp_path: Path) -> None:
    first, again = (kept_tokenizer(tmp_path / "tokenizer") for _ in range(2))
    assert first.get_vocab() == again.get_vocab()


def test_the_model_card_states_the_committed_figures() -> None:
    home = find("emoji").path.parent
    card, figures = (home / "MODEL_CARD.md").read_text(), json.loads((home / "quality.json").read_text())
    for key in ("top1_mean", "share_of_concepts_at_60_percent", "style", "hypernym"):
        assert f"| {100 * figures[key]:.1f} % |" in card, key


def test_nearly_every_word_is_one_token() -> None:
    tokenizer = new_tokenizer()
    lengths = Counter(len(tokenizer.tokenize(word)) for word in every_caption_word(catalogue()))
    assert lengths[1] > 0.95 * lengths.total()
    assert tokenizer.model_max_length == TEXT_LENGTH


def test_weights_are_small() -> None:
    folder = find("emoji").path
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) <= 45e6
    assert weights_path().stat().st_size <= 5e6
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".ckpt")]


def test_judge_says_none_where_nothing_is_known() -> None:
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(16)]
    plain = [Image.new("RGB", (64, 64), colour) for colour in catalogue().backgrounds.values()]
    detections = EmojiJudge().detect([*noise, *plain])
    assert np.mean([detection.sees(NONE) for detection in detections]) > 0.9
    assert [detection.attributes["background"] for detection in detections[16:]] == list(catalogue().backgrounds)


@pytest.mark.slow
def test_the_model_draws_what_it_is_asked(tmp_path: Path) -> None:
    from editkit.drawing.pipelines import open_denoiser
    from editkit.drawing.sampler import Sampling
    from editkit.emoji.quality import measure_quality

    few = replace(Sampling.for_model(find("emoji")), steps=8)
    figures = measure_quality(open_denoiser("emoji"), EmojiJudge(), [0], few, every=6)
    assert figures["top1_mean"] > 0.9 and figures["background"] > 0.95 and figures["style"] > 0.75
