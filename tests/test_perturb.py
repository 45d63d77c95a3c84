"""Random rows that are erased along: how long, where they go, and that they are solved for as any other row."""

from __future__ import annotations

import pytest
import torch

import editkit
from editkit.edits.perturb import perturbed
from editkit.edits.problem import Rows
from editkit.edits.solve import Penalty
from tests import reference
from tests.cases import plain
from tests.test_closed_form import assert_same_weights, make_case, weights_of


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_noise_is_as_long_as_the_way_to_the_target(scale: float) -> None:
    case = make_case(16, 2, "tail")
    rows = [Rows(*pair) for pair in case.pairs]
    penalty = Penalty.of(0.1, case.preserve, 16)
    for own, noisy in zip(rows, perturbed(rows, penalty, case.gram, scale, 400), strict=True):
        again = own.source.repeat(400, 1)
        noise, way = noisy.source - again, own.target - own.source
        size, wanted = (((x @ case.gram) * x).sum(1).mean() for x in (noise, scale * way))
        assert float(size / wanted) == pytest.approx(1, rel=0.1)
        assert torch.equal(noisy.target, own.target.double().repeat(400, 1))


def test_noise_spares_what_is_preserved() -> None:
    case = make_case(16, 1, "tail")
    rows, P = [Rows(*pair) for pair in case.pairs], case.preserve[:2]
    free, held = (
        perturbed(rows, Penalty.of(0.1, P, 16, weight), case.gram, 1.0, 50)[0].source - case.pairs[0][0].repeat(50, 1)
        for weight in (0.0, 1e4)
    )
    basis = torch.linalg.qr(P.T.double()).Q
    inside = [float((noise @ basis).square().sum() / noise.square().sum()) for noise in (free, held)]
    assert inside[0] > 0.05 and inside[1] < 1e-3


@pytest.mark.parametrize("copies", [1, 3])
def test_an_edit_with_random_rows_is_ridge_regression_over_all_of_them(copies: int) -> None:
    case = make_case(16, 2, "tail")
    options = plain("uce", "none", tokens="tail", perturb=copies, perturb_scale=0.7)
    noisy = perturbed([Rows(*pair) for pair in case.pairs], Penalty.of(0.1, None, 16), case.gram, 0.7, copies)
    shares = [(rows.source / copies**0.5, rows.target / copies**0.5) for rows in noisy]  # together as one copy
    expected = reference.uce(case.weights, [*case.pairs, *shares], None, 0.1)
    assert_same_weights(weights_of(options.solve(case.problem(None)), case), expected)


def test_random_rows_are_recorded_and_make_the_same_edit_twice() -> None:
    first, again, without = (
        editkit.erase("emoji", ["trumpet"], options=editkit.Options("uce", perturb=n)) for n in (1, 1, 0)
    )
    assert torch.equal(first.map.dense(), again.map.dense()) and first.record["options"]["perturb"] == 1
    assert not torch.allclose(first.map.dense(), without.map.dense(), atol=1e-4)
