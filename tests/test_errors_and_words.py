"""What an impossible edit says, the published defaults, and which words count as synonyms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from editkit.concepts.vocabulary import same_word, without_synonyms
from editkit.edits.compute import compute_edit
from editkit.edits.figures import measure
from editkit.edits.options import Options, defaults
from editkit.edits.protect import Protected
from editkit.edits.rece import derive
from editkit.edits.solve import Penalty, solve
from editkit.errors import EditkitError
from tests.cases import Case, plain, randn

SMALL = Case(8, randn(1, 2, 8), randn(2, 2, 8), randn(3, 1, 8), {"to_k": randn(4, 9, 8)}, Protected((), ()))
TWINS = SMALL.C[0] + 3e-8 * SMALL.C  # singular only up to rounding
NAN = torch.full((9, 8), float("nan"), dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: compute_edit(SMALL.problem(), plain(lamb=0.0)), "singular with lamb = 0; use a larger --lamb"),
        (lambda: solve(TWINS, SMALL.T, Penalty.of(1e-20, None, 8)), "singular with lamb = 1e-20; use a larger --lamb"),
        (lambda: compute_edit(SMALL.problem(SMALL.protected), plain(protect="prior")), "vocabulary"),
        (lambda: measure_of(replace(SMALL, T=1e6 * SMALL.T)), "blows up: to_k would change by .* times"),
        (lambda: measure_of(replace(SMALL, T=float("inf") * SMALL.T)), "not finite in to_k"),
        (lambda: measure_of(replace(SMALL, weights={"to_k": NAN, "to_v": randn(4, 9, 8)})), "not finite in to_k"),
        (lambda: derive(SMALL.solved(), torch.zeros(8, 8, dtype=torch.float64), SMALL.C, 0.0), "--reg"),
        (lambda: Options(method="esd"), "--method: must be one of time, uce, rece, but got 'esd'"),  # pyright: ignore
        (lambda: defaults("leace"), "--method: must be one of time, uce, rece, but got 'leace'"),
        (lambda: defaults("uce", "some"), "--protect: must be one of none, prior, minimax, but got 'some'"),
        (lambda: defaults(tokens="first"), "--tokens: must be one of last, tail, all, but got 'first'"),
        (lambda: plain(technique="cut"), "--technique: must be one of replace, tensor, but got 'cut'"),
        (lambda: Options(lamb=-1), "--lamb: expected a finite number of at least 0, got -1"),
        (lambda: Options(reg=float("nan")), "--reg: expected a finite number of at least 0, got nan"),
        (lambda: Options(strength=float("inf")), "--strength: expected a finite number of at least 0, got inf"),
        (lambda: Options(preserve_scale=-0.1), "--preserve-scale: expected a finite number of at least 0, got -0.1"),
        (lambda: Options(erase_scale=0), "--erase-scale: .*0"),
        (lambda: Options(epochs=1.5), "--epochs: .*1.5"),  # pyright: ignore[reportArgumentType]
        (lambda: defaults("uce", "prior", technique="tensor"), "--technique tensor: .* --method uce --protect none"),
    ],
)
def test_errors_name_the_cause_and_the_remedy(make: Callable[[], object], named: str) -> None:
    with pytest.raises(EditkitError, match=named):
        make()


def measure_of(case: Case) -> object:
    return measure(compute_edit(case.problem(), plain()), case.problem())


def test_defaults_are_the_published_ones() -> None:
    assert defaults("uce", "none") == Options("uce", "none", "last", lamb=0.5)
    assert defaults("rece", "none") == Options("rece", "none", "all", lamb=0.1, preserve_scale=0.1, reg=0.1, epochs=3)
    assert defaults("time", "none", lamb=7.0, reg=None) == Options("time", "none", "all", lamb=7.0)


SAME = "dog dogs|Dog dogs|church churches|box boxes|party parties|rose roses|horse horses|glass glasses|bus buses"
SAME += "|cookie cookies|headache headaches|tomato tomatoes|lens lenses|pie pies|axe axes|fox foxes"
OTHER = "dog dot|hot_dog dog|glass grass|plane plan|dress press|dogs dogma|pine pin|as a"


@pytest.mark.parametrize("pair", SAME.split("|"))
def test_same_word_up_to_case_and_plural(pair: str) -> None:
    one, other = pair.split()
    assert same_word(one, other) and same_word(other, one) and same_word(f"hot {one}", f"Hot  {other}")


@pytest.mark.parametrize("pair", OTHER.split("|"))
def test_different_words(pair: str) -> None:
    one, other = (word.replace("_", " ") for word in pair.split())
    assert not same_word(one, other) and not same_word(other, one)


def test_without_synonyms() -> None:
    words = ["Dogs", "hot dog", "Puppy", "hound", "cat", "wolf"]
    near = torch.tensor([[0.0, 0.0], [0.0, 0.1], [0.0, 0.0], [0.0, 0.51], [0.50, 0.49], [0.51, 0.0]])
    assert without_synonyms(words, ["dog", "x"], ["PUPPY"], near) == ["hot dog", "cat"]
    assert without_synonyms(words, ["dog"], [], None) == words[1:]
