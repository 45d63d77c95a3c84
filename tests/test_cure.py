"""CURE against its formula, layer by layer, and what the formula implies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st

import editkit
from editkit.edits.cure import cure
from editkit.edits.recovery import Recovery
from editkit.edits.solve import Penalty
from tests import reference
from tests.cases import Case, cases, eye, forall, plain
from tests.test_closed_form import assert_same_weights, make_case, weights_of


@pytest.mark.parametrize("alpha", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("concepts", [1, 3])
def test_it_is_the_formula_layer_by_layer(alpha: float, concepts: int) -> None:
    case = make_case(16, concepts, "tail")
    solution = plain("cure", "none", alpha=alpha).solve(case.problem(case.preserve))
    forget = torch.cat([source for source, _ in case.pairs])
    assert_same_weights(weights_of(solution, case), reference.cure(case.weights, forget, case.preserve, alpha))


@forall(cases(), st.floats(1, 10))
def test_a_single_row_is_projected_out_and_several_are_shrunk(case: Case, alpha: float) -> None:
    free = Penalty.of(0.1, None, case.d)
    one = cure(case.C[:1], free, alpha)
    assert float(one.embeddings(case.C[:1]).norm()) < 1e-9 * float(case.C[:1].norm())
    assert Recovery.of(one, eye(case.d)).floor(case.C[:1]) == pytest.approx(1)
    several = cure(torch.cat([case.C, case.P[:1]]), free, alpha)
    assert several.kernel_rank == 0


@forall(cases())
def test_what_is_retained_whole_stays(case: Case) -> None:
    held = Penalty.of(0.1, case.P[:1], case.d)
    edit = cure(case.C, held, 3.0)
    assert torch.allclose(edit.embeddings(case.P[:1]), case.P[:1], atol=1e-9)


@forall(cases(), st.sampled_from([1.5, 2.0, 4.0]))
def test_more_strength_takes_out_more_of_the_concept(case: Case, times: float) -> None:
    free = Penalty.of(0.1, None, case.d)
    weak, strong = (cure(case.C, free, alpha).embeddings(case.C).norm() for alpha in (1.0, times))
    assert strong < weak or len(case.C) == 1


def test_without_a_vocabulary_it_erases_what_all_prompts_share_first() -> None:
    options = {protect: editkit.Options("cure", protect=protect) for protect in ("none", "prior")}
    damage = {
        protect: editkit.erase("emoji", ["church"], options=given).record["figures"]["damage_mean"]
        for protect, given in options.items()
    }
    assert damage["none"] > 10 * damage["prior"]
