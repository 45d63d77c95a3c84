"""CLIP score and zero-shot labels, on a small random CLIP of transformers' format, against its own forward pass."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation.detectors.detection import Detection
from editkit.evaluation.metrics.metric import KEEP, Observation, TargetShares
from editkit.evaluation.metrics.named import check_metric
from editkit.evaluation.networks.clip import Clip, load_clip
from editkit.evaluation.networks.clip_score import ClipScore
from editkit.model.checkpoints.source import find
from editkit.plugins import make
from tests.pictures_of_emoji import noise, truncated

PROMPTS = ["a church", "a dog", "a red apple", "a rocket", "a slice of pizza", "a church"]


def save_clip(folder: Path, seed: int) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    torch.manual_seed(seed)
    tokenizer: Any = CLIPTokenizer.from_pretrained(find("emoji").path / "tokenizer")
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    marks = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = size | marks | {"vocab_size": len(tokenizer), "max_position_embeddings": 24}
    model = CLIPModel(
        CLIPConfig(text_config=text, vision_config=size | {"image_size": 32, "patch_size": 8}, projection_dim=16)
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.2)  # as initialised, all pictures are nearly the same to it
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "tiny-clip", 6)  # with it some cosines are negative


@pytest.fixture(scope="module")
def clip(folder: Path) -> Clip:
    return load_clip(folder)


def varied() -> list[Image.Image]:
    """As many as `PROMPTS`."""
    return [*noise(2, (40, 48)), *(Image.new("RGB", (40, 48), colour) for colour in ("red", "green", "blue", "white"))]


def by_forward(folder: Path, pictures: Any, texts: list[str]) -> Any:
    """`logits_per_image`, one picture at a time, texts padded to the longest: another path through the model."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    model: Any = CLIPModel.from_pretrained(folder).eval()
    tokenizer: Any = CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    rows = []
    for picture in pictures:
        ids = tokenizer(texts, padding=True, return_tensors="pt")
        pixels: Any = processor(picture, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(**ids, pixel_values=pixels.pixel_values).logits_per_image[0])
    return torch.stack(rows), float(model.logit_scale.detach().exp())


def test_clip_score_against_the_forward_pass(folder: Path, clip: Clip) -> None:
    pictures = varied()
    logits, scale = by_forward(folder, pictures, PROMPTS)
    cosines = (logits / scale).diagonal().numpy()
    assert cosines.min() < -0.01 and cosines.max() > 0.01
    scores = ClipScore(clip).scores(pictures, PROMPTS)
    assert scores == pytest.approx(np.maximum(100 * cosines, 0), abs=1e-3)
    assert ClipScore(clip).name == f"clip-score:{clip.name}"


def test_batches_change_nothing(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = varied()
    together = ClipScore(clip).scores(pictures, PROMPTS)
    monkeypatch.setattr(clip, "batch", 1)
    assert ClipScore(clip).scores(pictures, PROMPTS) == pytest.approx(together, abs=1e-3)
    assert ClipScore(clip).scores([], []) == []


def test_the_name_tells_checkpoints_apart(folder: Path, clip: Clip, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "a" / "tiny-clip")
    assert load_clip(tmp_path / "a" / "tiny-clip").name == clip.name
    assert load_clip(save_clip(tmp_path / "b" / "tiny-clip", 1)).name != clip.name
    assert clip.name.startswith("tiny-clip-")


def test_zero_shot(folder: Path, clip: Clip) -> None:
    """The softmax of the model's own logits; labels in their order; a broken picture is an error."""
    labels = ["church", "dog", "apple"]
    detector = make("detectors", "clip-zero-shot", folder=folder, labels=labels)
    pictures = varied()
    logits, _ = by_forward(folder, pictures, ["a photo of a church", "a photo of a dog", "a photo of an apple"])
    shares = logits.softmax(dim=1)
    for detection, row in zip(detector.detect(pictures), shares, strict=True):
        assert detection.labels == tuple(labels[n] for n in row.argsort(descending=True))
        assert [detection.score(label) for label in labels] == pytest.approx(row.tolist(), abs=1e-4)
    assert detector.name == f"clip-zero-shot:{clip.name}"


def test_zero_shot_counts_a_broken_picture(folder: Path, tmp_path: Path) -> None:
    detector = make("detectors", "clip-zero-shot", folder=folder, labels=["church", "dog"], template="{}")
    good, bad = detector.detect([*noise(1), truncated(tmp_path)])
    assert good.error is None and "OSError" in str(bad.error)


def test_zero_shot_wants_labels(folder: Path) -> None:
    for labels in ("church", ["church"], ["dog", "dog"]):
        with pytest.raises(EditkitError, match="expected labels, at least two that differ"):
            make("detectors", "clip-zero-shot", folder=folder, labels=labels)


def test_long_prompts_are_counted(clip: Clip) -> None:
    long = "a church " * 30
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than CLIP's 24 tokens: cut"):
        rows = clip.texts([long, "a dog", long])
    assert torch.equal(rows[0], rows[2]) and rows.norm(dim=1).tolist() == pytest.approx([1, 1, 1])


def test_time_by_clip(clip: Clip, tmp_path: Path) -> None:
    """The picture is closer to one text than to the other exactly when its cosine is the larger."""
    pictures = varied()[:4]
    trials = [("efficacy", ("a rocket", "a dog")), ("specificity", ("a cat", "a red apple"))] * 2
    cosines = clip.pictures(pictures) @ clip.texts(["a rocket", "a dog", "a cat", "a red apple"]).T
    wanted = [float(cosines[n, 0 if n % 2 == 0 else 2] > cosines[n, 1 if n % 2 == 0 else 3]) for n in range(4)]
    for n, (picture, (kind, closer)) in enumerate(zip(pictures, trials, strict=True)):
        picture.save(path := tmp_path / f"{n}.png")
        seen = Observation("a prompt", kind, KEEP, (), Detection(), path, closer=closer)
        assert check_metric(kind, TargetShares()).holding(clip=clip).measure([seen]) == [wanted[n]]
    assert len(set(wanted)) == 2


def test_what_is_missing_is_named(folder: Path, clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(
        EditkitError, match=r"CLIP: expected config\.json.* in .*nowhere, config\.json is not there; put"
    ):
        load_clip(tmp_path / "nowhere")
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    (half / "model.safetensors").unlink()
    with pytest.raises(EditkitError, match=r"model\.safetensors is not there; put a download of openai/clip"):
        load_clip(half)
    (half / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(EditkitError, match=r"CLIP: .*half cannot be read .*those of no known format"):
        load_clip(half)
    with pytest.raises(EditkitError, match="CLIP score: expected a prompt a picture, got 1 and 2"):
        ClipScore(clip).scores(noise(2), ["a dog"])
