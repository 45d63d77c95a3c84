"""`Σ WᵀW` in float32, its root, and what is computed from factors in place of whole matrices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.figures import weight_changes
from editkit.edits.gram import AT_ONCE, MANY, SOME, SPLIT_AT_ONCE, Way, gram_matrix, parts, square_root
from editkit.edits.rece import derive
from editkit.hardware import float64_on

D = 48
U = 2.0**-24


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(dtype: torch.dtype, offset: float, count: int = 4) -> list[Tensor]:
    """More rows for each column than it takes to sum them in float32. With an offset all products have one sign."""
    return [(offset + randn(n, AT_ONCE + 100 * n, D)).to(dtype) for n in range(count)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_the_sum_of_half_precision_keeps_to_its_bound(dtype: torch.dtype, offset: float) -> None:
    given = weights(dtype, offset)
    assert sum(map(len, given)) >= MANY * D
    wide = torch.cat(given).double()
    exact, sizes = wide.T @ wide, wide.abs().T @ wide.abs()
    error = (gram_matrix(given, D) - exact).abs()
    bound = AT_ONCE * U / (1 - AT_ONCE * U) * sizes
    assert float(error.max()) > 0  # else it was no float32
    assert bool((error <= bound).all())
    assert float(error.norm()) < 5e-7 * float(exact.norm())


def spread(seed: int, count: int, octaves: float) -> Tensor:
    """Numbers whose sizes lie up to so many powers of two apart, either way."""
    apart = torch.rand(count, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    return randn(seed + 1, count, D).clamp(-3, 3) * 2 ** (octaves * apart)


HARD: dict[str, Callable[[int], Tensor]] = {
    "normal": lambda n: randn(1, n, D),
    "of one large mean": lambda n: 100 + randn(1, n, D),
    "of sizes far apart": lambda n: spread(1, n, 14),
    "with columns far apart": lambda n: randn(1, n, D) * 10.0 ** torch.linspace(-3, 3, D, dtype=torch.float64),
    "with a few huge ones": lambda n: torch.where(randn(2, n, D) > 3, 1e4, 1.0) * randn(1, n, D).clamp(-5, 5),
    "of all bits": lambda n: torch.full((n, D), 2 - 2.0**-20, dtype=torch.float64),
    "that cancel": lambda n: randn(1, n, D).abs() * torch.tensor([1.0, -1.0]).repeat(n)[:n, None],
}
"""Weights that a sum in parts may go wrong with; all of them fit float16."""
KINDS = [torch.float16, torch.bfloat16, torch.float32]


def bound_of_parts(W: Tensor) -> Tensor:
    """The docstring's, from sizes alone: `|L + R|` and `|R|` at most 2⁻⁸ and 2⁻¹⁶ of a column's power of two, and `|W|`
    at most; and what float64 rounds."""
    wide, total = W.double().abs(), torch.zeros(D, D, dtype=torch.float64)
    for rows in wide.split(SPLIT_AT_ONCE):
        sigma = 2 ** (rows.amax(0).clamp(min=2.0**-60).log2().floor() + 1)
        near, rest = rows.minimum(sigma / 2**8), rows.minimum(sigma / 2**16)
        high = (rows + near).minimum(sigma)
        total += near.T @ near + high.T @ rest + rest.T @ high
    n = 3 * SPLIT_AT_ONCE
    return n * U / (1 - n * U) * total + len(W) * 2.0**-53 * (wide.T @ wide)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("name", HARD)
def test_the_sum_in_parts_keeps_to_its_bound(name: str, dtype: torch.dtype) -> None:
    W = HARD[name](3 * SPLIT_AT_ONCE + 100).to(dtype)
    exact, sizes = W.double().T @ W.double(), W.double().abs().T @ W.double().abs()
    error = (gram_matrix([W], D, "split") - exact).abs()
    assert bool((error <= bound_of_parts(W)).all())
    assert bool((bound_of_parts(W) <= 5 * 9.3e-5 * sizes).all())


@pytest.mark.parametrize("dtype", KINDS)
def test_the_sum_in_parts_is_a_thousand_times_as_exact_as_one_in_float32(dtype: torch.dtype) -> None:
    W = randn(1, 4 * AT_ONCE, D).to(dtype)
    exact = W.double().T @ W.double()
    in_parts, blocks = (float((gram_matrix([W], D, way) - exact).norm()) for way in ("split", "blocks"))
    assert 0 < in_parts < 1e-3 * blocks and blocks < 5e-7 * float(exact.norm())


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("name", HARD)
def test_parts_add_up_to_the_weights_and_the_large_ones_are_multiplied_exactly(name: str, dtype: torch.dtype) -> None:
    W = HARD[name](SPLIT_AT_ONCE).to(dtype).float()
    high, low, rest = parts(W)
    assert torch.equal(high.double() + low.double() + rest.double(), W.double())
    both = torch.cat([high, low]), torch.cat([low, high])
    for left, right in ((high, high), both):
        assert torch.equal((left.T @ right).double(), left.double().T @ right.double())
        assert torch.equal((left.flip(0).T @ right.flip(0)).double(), left.double().T @ right.double())


@pytest.fixture
def slow_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editkit.edits.gram.float64_on", lambda device: "slow")


@pytest.mark.parametrize("dtype", KINDS)
def test_where_float64_is_slow_many_rows_are_summed_in_parts_and_few_in_float64(
    dtype: torch.dtype, slow_float64: None
) -> None:
    W = randn(1, SOME * D, D).to(dtype)
    assert torch.equal(gram_matrix([W], D), gram_matrix([W], D, "split"))
    assert torch.equal(gram_matrix([W[1:]], D), gram_matrix([W[1:]], D, "float64"))
    assert not torch.equal(gram_matrix([W], D), gram_matrix([W], D, "float64"))


def test_what_is_float64_is_never_split(slow_float64: None) -> None:
    W = randn(1, SOME * D, D)
    assert all(torch.equal(gram_matrix([W], D, way), gram_matrix([W], D, "float64")) for way in (None, "split"))


@pytest.mark.parametrize("way", ["blocks", "split"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_what_exceeds_float32_is_summed_in_float64(way: Way, dtype: torch.dtype) -> None:
    W = (randn(1, 100, D) * 1e25).to(dtype)
    exact = W.double().T @ W.double()
    torch.testing.assert_close(gram_matrix([W], D, way), exact, rtol=1e-12, atol=1e-12 * float(exact.norm()))


@pytest.mark.parametrize("way", ["blocks", "split"])
def test_neither_autocast_nor_coarse_products_reach_the_sum(way: Way) -> None:
    """Whoever asks for G first may be drawing."""
    W, before = randn(1, 600, D).float(), torch.get_float32_matmul_precision()
    expected = gram_matrix([W], D, way)
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            made = gram_matrix([W], D, way)
            assert (W @ W.T).dtype == torch.bfloat16
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(made, expected)


def test_gpus_with_fast_float64_are_those_of_data_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {(7, 0): "fast", (7, 5): "slow", (8, 0): "fast", (8, 6): "slow", (9, 0): "fast", (10, 3): "slow"}
    for capability, kind in kinds.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, known=capability: known)
        assert float64_on("cuda:0") == kind


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_few_rows_and_full_precision_are_summed_in_float64(dtype: torch.dtype) -> None:
    given = [W[: MANY * D // 8] if dtype == torch.float16 else W for W in weights(dtype, 1.0)]
    exact = sum(W.double().T @ W.double() for W in given)
    torch.testing.assert_close(gram_matrix(iter(given), D), exact, rtol=1e-13, atol=0)


def test_the_sum_is_symmetric_to_the_bit() -> None:
    total = gram_matrix([W.repeat(1, 7)[:, :300] for W in weights(torch.float16, 0.0, 8)], 300)
    assert torch.equal(total, total.T)


@pytest.mark.parametrize("rows", [2 * D, D // 2])
def test_a_root_is_one_of_singular_matrices_too(rows: int) -> None:
    X = randn(1, rows, D)
    root = square_root(X.T @ X)
    assert root.shape == (D, D)
    torch.testing.assert_close(root.T @ root, X.T @ X, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [0, 3, D // 2 + 1, 2 * D])
def test_a_moved_gram_is_the_product_of_whole_matrices(rank: int) -> None:
    edit, gram = EditMap(randn(1, D, rank), randn(2, rank, D)), randn(3, 2 * D, D)
    gram = gram.T @ gram
    whole = edit.dense().T @ gram @ edit.dense()
    torch.testing.assert_close(edit.moved_gram(gram), whole, rtol=1e-10, atol=1e-10 * float(whole.abs().max()))


def test_derived_rows_make_the_edited_model_answer_as_the_original() -> None:
    """RECE Eq. 8 with its matrices written out."""
    edit, gram, C = EditMap(randn(1, D, 3), randn(2, 3, D) / D), randn(3, 2 * D, D), randn(4, 5, D)
    gram, M = gram.T @ gram, edit.dense()
    eye = torch.eye(D, dtype=torch.float64)
    expected = (torch.linalg.inv(0.1 * eye + M.T @ gram @ M) @ M.T @ gram @ C.T).T
    torch.testing.assert_close(derive(edit, gram, C, 0.1), expected, rtol=1e-8, atol=1e-8)


def test_weight_changes_are_those_of_the_edited_weights_however_short_some_directions_are() -> None:
    sizes = 10.0 ** -torch.arange(12, dtype=torch.float64)
    edit = EditMap(randn(1, D, 12) * sizes, torch.linalg.qr(randn(2, D, 12)).Q.T)
    given = {str(n): randn(n, 60, D) for n in range(3)}
    expected = {name: float((edit.weight(W) - W).norm() / W.norm()) for name, W in given.items()}
    assert weight_changes({"*": edit}, given) == pytest.approx(expected, rel=1e-6)
