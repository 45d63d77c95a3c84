"""What an impossible edit says, the published defaults, and which words count as synonyms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch

from editkit.concepts.vocabulary import same_word, without_synonyms
from editkit.edits.figures import measure
from editkit.edits.method import Options
from editkit.edits.protect import ProtectedWords
from editkit.edits.rece import RECE, derive
from editkit.edits.solve import Penalty, solve
from editkit.edits.time import TIME
from editkit.edits.uce import UCE
from editkit.errors import EditkitError
from tests.cases import Case, plain, randn

SMALL = Case(8, randn(1, 2, 8), randn(2, 2, 8), randn(3, 1, 8), {"to_k": randn(4, 9, 8)}, ProtectedWords((), ()))
TWINS = SMALL.C[0] + 3e-8 * SMALL.C  # singular only up to rounding
NAN = torch.full((9, 8), float("nan"), dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: plain(lamb=0.0).solve(SMALL.problem()), "singular with lamb = 0; use a larger --lamb"),
        (lambda: solve(TWINS, SMALL.T, Penalty.of(1e-20, None, 8)), "singular with lamb = 1e-20; use a larger --lamb"),
        (lambda: plain(protect="prior").solve(SMALL.problem(SMALL.protected)), "vocabulary"),
        (lambda: measure_of(replace(SMALL, T=1e6 * SMALL.T)), "blows up: to_k would change by .* times"),
        (lambda: measure_of(replace(SMALL, T=float("inf") * SMALL.T)), "not finite in to_k"),
        (lambda: measure_of(replace(SMALL, weights={"to_k": NAN, "to_v": randn(4, 9, 8)})), "not finite in to_k"),
        (lambda: derive(SMALL.solved(), torch.zeros(8, 8, dtype=torch.float64), SMALL.C, 0.0), "--reg"),
        (lambda: Options(method="esd"), "method 'esd': known are cure, dp, oce, rece, speed, time, uce"),  # pyright: ignore
        (lambda: Options("leace"), "method 'leace': did you mean rece"),
        (
            lambda: Options("uce", protect="some"),
            "--protect: must be one of minimax, prior, null, none, but got 'some'",
        ),
        (
            lambda: Options(tokens="first"),
            "--tokens: must be one of last, tail, all, eot, ends, around, but got 'first'",
        ),
        (lambda: plain(technique="cut"), "--technique: must be one of replace, tensor, but got 'cut'"),
        (lambda: Options(lamb=-1), "--lamb: expected a finite number of at least 0, got -1"),
        (lambda: Options(reg=float("nan")), "--reg: expected a finite number of at least 0, got nan"),
        (lambda: Options(strength=float("inf")), "--strength: expected a finite number of at least 0, got inf"),
        (lambda: Options(preserve_scale=-0.1), "--preserve-scale: expected a finite number of at least 0, got -0.1"),
        (lambda: Options(erase_scale=0), "--erase-scale: .*0"),
        (lambda: Options(epochs=1.5), "--epochs: .*1.5"),  # pyright: ignore[reportArgumentType]
        (lambda: Options("uce", protect="prior", technique="tensor"), "--technique tensor: .* --protect none"),
        (lambda: Options("uce", epochs=2), "--epochs: method uce has no such option; its options: --protect, --tok"),
        (lambda: Options(lambd=2), "--lambd: method rece has no such option; did you mean --lamb"),
    ],
)
def test_errors_name_the_cause_and_the_remedy(make: Callable[[], object], named: str) -> None:
    with pytest.raises(EditkitError, match=named):
        make()


def measure_of(case: Case) -> object:
    return measure(plain().solve(case.problem()), case.problem())


def test_defaults_are_the_published_ones() -> None:
    shared = {
        "protect": "none",
        "layers": "all",
        "erase_scale": 1.0,
        "preserve_scale": 1.0,
        "expand": "none",
        "strength": 0.5,
        "rounds": 5,
        "prior_strength": 0.5,
        "null_threshold": 1e-3,
        "hard": False,
        "hard_directions": 2,
        "floor_weight": 30.0,
        "perturb": 0,
        "perturb_scale": 1.0,
    }
    assert asdict(UCE("none")) == {**shared, "tokens": "last", "lamb": 0.5, "technique": "replace"}
    rece = {"tokens": "all", "lamb": 0.1, "preserve_scale": 0.1, "reg": 0.1, "epochs": 3, "joint": False}
    assert asdict(RECE("none")) == {**shared, **rece}
    assert asdict(TIME("none", lamb=7.0)) == {**shared, "tokens": "all", "lamb": 7.0}


def test_one_definition_is_the_default_in_every_way() -> None:
    assert Options() == Options("rece") == RECE() == RECE(protect="minimax") == Options(lamb=None)
    assert (Options().lamb, RECE().epochs, RECE().joint, RECE().tokens) == (1e-4, 1, True, "tail")
    assert replace(RECE(), lamb=0.3) == RECE(lamb=0.3)


SAME = "dog dogs|Dog dogs|church churches|box boxes|party parties|rose roses|horse horses|glass glasses|bus buses"
SAME += "|cookie cookies|headache headaches|tomato tomatoes|lens lenses|pie pies|axe axes|fox foxes"
OTHER = "dog dot|hot_dog dog|glass grass|plane plan|dress press|dogs dogma|pine pin|as a"


@pytest.mark.parametrize("pair", SAME.split("|"))
def test_same_word_up_to_case_and_plural(pair: str) -> None:
    first, other = pair.split()
    assert same_word(first, other) and same_word(other, first) and same_word(f"hot {first}", f"Hot  {other}")


@pytest.mark.parametrize("pair", OTHER.split("|"))
def test_different_words(pair: str) -> None:
    first, other = (word.replace("_", " ") for word in pair.split())
    assert not same_word(first, other) and not same_word(other, first)


def test_without_synonyms() -> None:
    words = ["Dogs", "hot dog", "Puppy", "hound", "cat", "wolf"]
    near = torch.tensor([[0.0, 0.0], [0.0, 0.1], [0.0, 0.0], [0.0, 0.51], [0.50, 0.49], [0.51, 0.0]])
    assert without_synonyms(words, ["dog", "x"], ["PUPPY"], near) == ["hot dog", "cat"]
    assert without_synonyms(words, ["dog"], [], None) == words[1:]
