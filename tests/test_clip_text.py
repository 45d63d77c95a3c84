"""CLIP's text transformer against transformers' own, and what it shares between prompts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from editkit.embeddings import clip_text
from editkit.embeddings.clip_text import ClipText
from editkit.errors import EditkitError

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
END = 49
SEQUENCES = [
    [48, 1, 2, 3, END, 0, 0],
    [48, 1, 2, END],
    [48, 1, 7, END, 0],
    [48, END],
    [48, 1, 2, 3, 4, 5, END, END, END, END, END],
    [48, 1, 2, END],
]


def pair(**more: Any) -> tuple[ClipText, Any]:
    """One model, here and in transformers."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "projection_dim": 24}
    sizes |= {"vocab_size": 50, "num_attention_heads": 4, "max_position_embeddings": 12, "eos_token_id": END}
    stock = CLIPTextModelWithProjection(CLIPTextConfig(**(sizes | more))).eval()
    with torch.no_grad():
        for weight in stock.parameters():  # fresh biases are zero and norms one: a mistake there would not show
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return ClipText.of(stock.config.to_dict(), stock.state_dict(), projected=True), stock


@torch.no_grad()
def alone(stock: Any, ids: list[int]) -> Any:
    return stock(torch.tensor([ids]), output_hidden_states=True)


@pytest.mark.parametrize("more", [{}, {"hidden_act": "gelu"}, {"eos_token_id": 2}, {"layer_norm_eps": 1e-2}], ids=str)
@pytest.mark.parametrize("pack", [1, 12, 160])
def test_rows_are_those_of_transformers(more: dict[str, Any], pack: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_text, "PACK", pack)
    monkeypatch.setattr(clip_text, "AT_A_TIME", 16)
    mine, stock = pair(**more)
    theirs = [alone(stock, ids) for ids in SEQUENCES]
    last = torch.cat([out.last_hidden_state[0] for out in theirs])
    torch.testing.assert_close(mine.rows(SEQUENCES), last, **CLOSE)
    for layer in (-2, -1, 0):
        expected = torch.cat([out.hidden_states[layer][0] for out in theirs])
        torch.testing.assert_close(mine.rows(SEQUENCES, layer), expected, **CLOSE)
    expected = torch.cat([out.text_embeds for out in theirs])
    torch.testing.assert_close(mine.pooled(SEQUENCES, projected=True), expected, **CLOSE)
    assert (mine.width, mine.projected, mine.vocabulary, mine.positions) == (32, 24, 50, 12)


def test_bfloat16_keeps_two_digits() -> None:
    mine, _ = pair()
    exact, coarse = mine.rows(SEQUENCES), mine.rows(SEQUENCES, coarse=True)
    assert 0 < (exact - coarse).norm() < 0.02 * exact.norm()


def test_what_sequences_begin_with_is_computed_once() -> None:
    alike = [[48, 1, 2, 3, n, END] for n in range(4, 34)]
    assert clip_text.pack(alike).ids.numel() == 4 + 2 * len(alike)
    assert clip_text.pack([alike[0]] * 100).ids.numel() == len(alike[0])


def test_older_names_and_what_is_missing() -> None:
    mine, stock = pair()
    state, config = stock.state_dict(), stock.config.to_dict()
    plain = ClipText.of(
        config, {name.removeprefix("text_model."): tensor for name, tensor in state.items()}, projected=True
    )
    assert plain.tensors.keys() == mine.tensors.keys()
    del state["text_projection.weight"]
    assert len(ClipText.of(config, state, projected=False).tensors) == len(mine.tensors) - 1
    with pytest.raises(KeyError, match="text_projection"):
        ClipText.of(config, state, projected=True)
    with pytest.raises(EditkitError, match="hidden_act must be one of gelu, quick_gelu, but its config says 'relu'"):
        ClipText.of(config | {"hidden_act": "relu"}, state, projected=False)
