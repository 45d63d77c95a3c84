"""Edits made of edits, and the file they are kept in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editkit.edits.compose import compose, scale
from editkit.edits.edit import EVERYWHERE, Edit
from editkit.edits.edit_map import EditMap
from editkit.errors import EditkitError
from editkit.variants.compose import compose as compose_files
from editkit.variants.edit_file import load_edit, save_edit

D = 12
NAMES = ("down.0.attn2.to_k.weight", "down.0.attn2.to_v.weight", "add_embedding.linear_1.weight")
KEYS = (EVERYWHERE, r".*attn2\.to_[kv]\.weight", NAMES[0], NAMES[2])
FOR: dict[str, Any] = {"family": "sd1", "text_encoder_sha256": "t", "projections_sha256": "p", "model": "m"}


def weights(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(5 + i, D, generator=generator, dtype=torch.float64) for i, name in enumerate(NAMES)}


def edit(seed: int, keys: tuple[str, ...] = (EVERYWHERE,), rank: int = 3, **record: Any) -> Edit:
    generator = torch.Generator().manual_seed(seed)

    def factor(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    maps = {key: EditMap(factor(D, rank), factor(rank, D)) for key in keys}
    return Edit(maps, FOR | {"method": "uce", "concepts": [f"c{seed}"], "guides": ["g"], "preserve": []} | record)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(*[st.sets(st.sampled_from(KEYS), min_size=1) for _ in range(2)], st.integers(1, 14))
def test_composing_is_applying_one_after_the_other(first: set[str], later: set[str], rank: int) -> None:
    earlier, other = edit(1, tuple(sorted(first)), rank), edit(2, tuple(sorted(later)), rank)
    W = weights(3)
    expected = W | earlier.weights(W)
    expected |= other.weights(expected)
    composed = W | compose(earlier, other).weights(W)
    for name, value in expected.items():
        assert float((composed[name] - value).norm() / value.norm()) < 1e-12, name


def test_the_order_matters_and_is_recorded() -> None:
    earlier, other = edit(1), edit(2, projections_sha256="q")
    both = compose(earlier, other)
    assert both.record["concepts"] == ["c1", "c2"]
    assert [part["concepts"] for part in both.record["parts"]] == [["c1"], ["c2"]]
    assert both.record["projections_sha256"] is None
    assert not torch.allclose(both.map.dense(), compose(other, earlier).map.dense())


@pytest.mark.parametrize(("key", "what"), [("family", "model family"), ("text_encoder_sha256", "text encoder")])
def test_edits_of_different_models_are_refused(key: str, what: str) -> None:
    with pytest.raises(EditkitError, match=f"different {what}s"):
        other: dict[str, Any] = {key: "other"}
        compose(edit(1), edit(2, **other))


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0, -1.0])
def test_scale_interpolates_the_weights(strength: float) -> None:
    whole, W = edit(1, (KEYS[1], NAMES[2])), weights(4)
    for name, value in scale(whole, strength).weights(W).items():
        torch.testing.assert_close(value, W[name] + strength * (whole.weights(W)[name] - W[name]))
    assert scale(scale(whole, strength), 0.5).record["scale"] == strength / 2


def loaded(path: Path) -> Edit:
    loaded = load_edit(path)
    assert isinstance(loaded, Edit)
    return loaded


def test_a_scale_out_of_range_is_named() -> None:
    with pytest.raises(EditkitError, match="--scale: expected a number between"):
        scale(edit(1), float("nan"))


@pytest.mark.parametrize("keys", [(EVERYWHERE,), (KEYS[1], NAMES[2]), NAMES])
def test_the_file_keeps_every_map(keys: tuple[str, ...], tmp_path: Path) -> None:
    saved, W = edit(5, keys), weights(6)
    save_edit(saved, tmp_path / "e.safetensors")
    again = loaded(tmp_path / "e.safetensors")
    assert set(again.maps) == set(keys) and again.record["concepts"] == ["c5"]
    for name, value in saved.weights(W).items():
        assert float((again.weights(W)[name] - value).norm() / value.norm()) < 1e-6


def test_a_shared_down_factor_is_stored_once(tmp_path: Path) -> None:
    down = torch.randn(4, D, dtype=torch.float64)
    maps = {name: EditMap(torch.randn(D, 4, dtype=torch.float64), down) for name in NAMES}
    save_edit(Edit(maps, FOR), tmp_path / "shared.safetensors")
    save_edit(
        Edit({name: EditMap(edit_map.U, edit_map.V.clone()) for name, edit_map in maps.items()}, FOR),
        tmp_path / "own.safetensors",
    )
    saved = (tmp_path / "own.safetensors").stat().st_size - (tmp_path / "shared.safetensors").stat().st_size
    assert saved >= 2 * down.numel() * 4
    again = loaded(tmp_path / "shared.safetensors")
    save_edit(again, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").stat().st_size == (tmp_path / "shared.safetensors").stat().st_size


def test_compose_files(tmp_path: Path) -> None:
    for seed in (1, 2):
        save_edit(edit(seed), tmp_path / f"{seed}.safetensors")
    out = tmp_path / "both.safetensors"
    compose_files([tmp_path / "1.safetensors", tmp_path / "2.safetensors"], out, 0.5)
    expected = scale(compose(edit(1), edit(2)), 0.5).map.dense()
    assert float((loaded(out).map.dense() - expected).norm() / expected.norm()) < 1e-6
    with pytest.raises(EditkitError, match="not overwritten unasked"):
        compose_files([out], out)
