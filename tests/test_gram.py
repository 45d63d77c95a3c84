"""`Σ WᵀW` of half precision, its root, and what is computed from factors in place of whole matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from editkit.edits.edit_map import EditMap
from editkit.edits.figures import weight_changes
from editkit.edits.gram import AT_ONCE, MANY, gram_matrix, square_root
from editkit.edits.rece import derive

D = 48


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
    u = 2.0**-24
    bound = AT_ONCE * u / (1 - AT_ONCE * u) * sizes
    assert float(error.max()) > 0  # else it was no float32
    assert bool((error <= bound).all())
    assert float(error.norm()) < 5e-7 * float(exact.norm())


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
