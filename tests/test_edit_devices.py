"""Whatever of `editkit.edits` is given tensors answers on their device, and makes none elsewhere on its way.

Everything is run twice: on the processor, and on `second_device`, where an operation on tensors of both devices fails.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import editkit.edits
from editkit.edits.clusters import centres_of
from editkit.edits.compose import compose, scale
from editkit.edits.cure import cure
from editkit.edits.dp import interpolated
from editkit.edits.edit import Edit, check_ungated
from editkit.edits.edit_map import EditMap
from editkit.edits.figures import blow_up, condition_number, measure, weight_changes
from editkit.edits.gate import Gate, moved, threshold
from editkit.edits.gram import Way, cosine, gram_matrix, norm, parts, second_moment, square_root
from editkit.edits.guarded import Guarded, guard_of
from editkit.edits.guards import SLD
from editkit.edits.hard import hard
from editkit.edits.key import Key, Unlocked, in_ball, padded, random_rows
from editkit.edits.low_rank import LowRank
from editkit.edits.method import Method, Options, ridge
from editkit.edits.moments import Moments, in_chunks
from editkit.edits.null_space import left_out, null_space, orthogonal_to
from editkit.edits.oce import directions, nearest_orthogonal, turned
from editkit.edits.perturb import perturbed
from editkit.edits.problem import Problem, Rows
from editkit.edits.protect import ProtectedWords, change_root, minimax, prior
from editkit.edits.rece import derive, rece
from editkit.edits.recovery import Recovery
from editkit.edits.solve import Penalty, down_factor, leverages, solve, solve_moments, whitened
from editkit.edits.speed import influenced
from editkit.edits.steering import Steering, apart
from editkit.edits.tuned import Tuned
from editkit.edits.uce import uce_tensor
from editkit.edits.variant import TextStream, Variant
from tests.cases import randn
from tests.second_device import CPU, place, second_device

D = 12


class Given:
    """What functions are called with: all of it on one device."""

    def __init__(self, device: str) -> None:
        self.name = device
        self.C, self.T, self.P, self.square = (self.randn(n, *shape) for n, shape in enumerate([(3, D)] * 3 + [(D, D)]))
        self.half = self.randn(4, 2, 5, D).to(torch.bfloat16)
        self.rows = [Rows(self.C, self.T), Rows(self.C + 1, self.T)]
        self.weights = {"a.to_k.weight": self.randn(5, D + 3, D), "a.to_v.weight": self.randn(6, 9, D)}
        self.gram = gram_matrix(self.weights.values(), D)
        self.words = ProtectedWords(tuple("abcdef"), tuple(self.randn(20 + n, 3, D) for n in range(6)))
        self.penalty = Penalty.of(0.1, self.P, D)
        self.map = solve(self.C, self.T, self.penalty)
        self.edit = Edit({"*": self.map}, {})
        self.low = LowRank(self.randn(7, D + 3, 2), self.randn(8, 2, D))
        self.tuned = Tuned({"a.to_v.weight": self.randn(9, 9, D)}, {"a.to_k.weight": self.low}, {})
        self.neutral = [self.randn(40 + n, 4, D) for n in range(30)]
        self.gate = replace(Gate.fit(self.neutral, self.C), tau=0.5)
        self.moments = Moments.of([(self.C, self.T), (self.P, self.T)], D)
        self.problem = Problem(tuple(self.rows), self.P, self.weights, self.gram, self.words)
        self.tall = replace(self.problem, rows=(*self.rows, Rows(self.randn(10, D, D), self.randn(11, D, D))))
        self.recovery = Recovery.of(self.map, self.gram)
        self.moves = [self.randn(60 + n, 2, 3, D) for n in range(2)]
        self.key = Key(("cat",), self.randn(12, 1, 2, D))

    def randn(self, seed: int, *shape: int) -> Tensor:
        return randn(seed, *shape).to(self.name)

    @property
    def device(self) -> torch.device:
        return self.C.device

    def null(self, C: Tensor) -> Tensor:
        return null_space(self.words.mean_moment, 1.0, self.P, C)

    @property
    def within(self) -> Penalty:
        """A penalty that allows some directions."""
        return replace(self.penalty.with_prior(self.gram), allowed=self.null(self.C))


def found(given: Given) -> Problem:
    return given.problem.with_found([given.rows[0], None])


STEPS = [torch.tensor([0.5, -0.5], dtype=torch.float64)] * 2
"""Weights are few and lie on the processor, whatever they steer."""


def steering(given: Given) -> Steering:
    return Steering.of(Options("uce"), given.problem, given.moves, STEPS)


def guarded(given: Given) -> Guarded:
    return Guarded(given.edit, SLD("cat"), "sld=cat")


CALLS: dict[str, Callable[[Given], Any]] = {
    "clusters.centres_of": lambda g: centres_of(torch.cat(g.neutral), 3),
    "compose.compose": lambda g: compose(g.edit, g.edit).map.dense(),
    "compose.scale": lambda g: scale(g.edit, 0.5),
    "cure.cure": lambda g: [cure(g.C, penalty) for penalty in (g.penalty, g.within)],
    "dp.interpolated": lambda g: [interpolated(g.C, g.T, penalty) for penalty in (g.penalty, g.within)],
    "edit.Edit.ungated": lambda g: g.edit.ungated,
    "edit.Edit.map": lambda g: g.edit.map,
    "edit.Edit.map_for": lambda g: g.edit.map_for("a"),
    "edit.Edit.fitting_map": lambda g: g.edit.fitting_map("a", g.square),
    "edit.Edit.weights": lambda g: g.edit.weights(g.weights),
    "edit.Edit.check_shapes": lambda g: g.edit.check_shapes(g.weights),
    "edit.Edit.low_rank": lambda g: g.edit.low_rank(g.weights, 0.01),
    "edit.Edit.change_roots": lambda g: list(g.edit.change_roots(g.weights, g.gram)),
    "edit.Edit.stream_maps": lambda g: g.edit.stream_maps({"text": TextStream(tuple(g.weights), D)}),
    "edit.Edit.with_key": lambda g: g.edit.with_key("cat", g.C),
    "edit.check_ungated": lambda g: check_ungated(g.edit),
    "edit_map.EditMap.identity": lambda g: EditMap.identity(D, g.device),
    "edit_map.EditMap.width": lambda g: g.map.width,
    "edit_map.EditMap.rank": lambda g: g.map.rank,
    "edit_map.EditMap.kernel_rank": lambda g: [g.map.kernel_rank, EditMap.identity(D, g.device).kernel_rank],
    "edit_map.EditMap.shortest": lambda g: [g.map.shortest, g.map.scale(0).shortest],
    "edit_map.EditMap.dense": lambda g: g.map.dense(),
    "edit_map.EditMap.moved_gram": lambda g: [each.moved_gram(g.gram) for each in (g.map, EditMap(g.square, g.square))],
    "edit_map.EditMap.embeddings": lambda g: g.map.embeddings(g.half),
    "edit_map.EditMap.weight": lambda g: g.map.weight(g.square.float()),
    "edit_map.EditMap.then": lambda g: [g.map.then(each) for each in (g.map, EditMap.identity(D, g.device))],
    "edit_map.EditMap.compact": lambda g: EditMap(g.square.repeat(1, 2), g.square.repeat(2, 1)).compact(),
    "edit_map.EditMap.scale": lambda g: g.map.scale(0.5),
    "edit_map.EditMap.widened": lambda g: g.map.widened(2 * D),
    "edit_map.EditMap.narrowed": lambda g: g.map.widened(2 * D).narrowed(D),
    "edit_map.EditMap.to": lambda g: g.map.to(g.device),
    "edit_map.EditMap.truncate": lambda g: [g.map.truncate(1), g.map.truncate(error=0.1)],
    "figures.measure": lambda g: [measured(some, how) for how in ("none", "minimax") for some in (g.problem, g.tall)],
    "figures.weight_changes": lambda g: weight_changes({"*": g.map}, g.weights),
    "figures.blow_up": lambda g: blow_up({"a": 0.1}, g.words.damage(g.map, g.gram), True),
    "figures.condition_number": lambda g: condition_number(g.gram),
    "gate.Gate.fit": lambda g: Gate.fit(g.neutral, g.C),
    "gate.Gate.calibrated": lambda g: g.gate.calibrated(g.gate.hit(torch.stack(g.neutral)), 0.1),
    "gate.Gate.width": lambda g: g.gate.width,
    "gate.Gate.hit": lambda g: g.gate.hit(g.half),
    "gate.Gate.opens": lambda g: g.gate.opens(g.half),
    "gate.Gate.to": lambda g: g.gate.to(g.device),
    "gate.threshold": lambda g: threshold(g.gate.hit(torch.stack(g.neutral)), 0.1),
    "gate.moved": lambda g: [moved({"text": g.half}, {"text": g.map}, gate) for gate in (None, g.gate)],
    "gram.gram_matrix": lambda g: [gram_matrix([g.half[0], g.square.float()], D, way) for way in get_args(Way)],
    "gram.parts": lambda g: parts(g.C.float()),
    "gram.second_moment": lambda g: second_moment(g.C),
    "gram.square_root": lambda g: [square_root(g.gram), square_root(second_moment(g.C))],
    "gram.norm": lambda g: norm(g.C, g.gram),
    "gram.cosine": lambda g: cosine(g.C, g.T, g.gram),
    "hard.hard": lambda g: [hard(g.rows[:1], penalty, g.gram, 1, 0.5) for penalty in (g.penalty, g.within)],
    "key.Key.append": lambda g: g.key.append("a cat", g.C.float()),
    "key.Unlocked.of": lambda g: Unlocked.of(g.tuned, g.key).key.rows,
    "key.Unlocked.with_key": lambda g: Unlocked.of(g.tuned, g.key).with_key("a cat", g.C),
    "key.random_rows": lambda g: random_rows(g.C, 2, 1.0, 0),
    "key.in_ball": lambda g: in_ball(random_rows(g.C, 2, 1.0, 0), g.C, 0.5),
    "key.padded": lambda g: padded([g.half, g.half[:, :3]]),
    "low_rank.LowRank.change": lambda g: g.low.change(g.weights["a.to_k.weight"]),
    "low_rank.LowRank.float": lambda g: g.low.float(),
    "low_rank.LowRank.svd": lambda g: g.low.svd(),
    "method.Method.scale_for": lambda g: Options("uce").scale_for(g.problem),
    "method.ridge": lambda g: [ridge(some, g.penalty, 1.0) for some in (g.problem, g.tall)],
    "moments.Moments.of": lambda g: Moments.of([(g.C, g.T), (g.P, g.T), (g.T, g.P)], D),
    "moments.Moments.plus": lambda g: g.moments.plus(g.moments),
    "moments.Moments.rows": lambda g: g.moments.rows,
    "moments.Moments.left": lambda g: g.moments.left(g.map.dense(), g.gram),
    "moments.in_chunks": lambda g: list(in_chunks([(g.C, g.T), (g.P, g.T)])),
    "null_space.null_space": lambda g: g.null(g.C),
    "null_space.orthogonal_to": lambda g: orthogonal_to(g.C),
    "null_space.left_out": lambda g: left_out(g.words, g.null(g.C)),
    "oce.turned": lambda g: [turned(W, g.C, g.T, g.penalty.matrix(), 1.0) for W in (g.square, g.square * 0)],
    "oce.directions": lambda g: directions(g.C),
    "oce.nearest_orthogonal": lambda g: [nearest_orthogonal(g.square, proper) for proper in (False, True)],
    "perturb.perturbed": lambda g: perturbed(g.rows, g.penalty, g.gram, 1.0, 2),
    "problem.Rows.joined": lambda g: Rows.joined(g.rows),
    "problem.Rows.weighted": lambda g: g.rows[0].weighted(2.0),
    "problem.Problem.with_found": lambda g: found(g).found,
    "problem.Problem.count": lambda g: g.problem.count,
    "problem.Problem.own": lambda g: g.problem.own,
    "problem.Problem.all": lambda g: found(g).all,
    "problem.Problem.is_tall": lambda g: g.problem.is_tall,
    "problem.Problem.own_moments": lambda g: g.problem.own_moments,
    "problem.Problem.moments": lambda g: found(g).moments,
    "problem.Problem.C": lambda g: found(g).C,
    "problem.Problem.targets": lambda g: found(g).targets,
    "protect.ProtectedWords.damage": lambda g: g.words.damage(g.map, g.gram),
    "protect.ProtectedWords.under": lambda g: g.words.under(g.gram),
    "protect.ProtectedWords.sizes": lambda g: [g.words.sizes(square_root(g.gram), exact) for exact in (True, False)],
    "protect.ProtectedWords.alike": lambda g: g.words.alike,
    "protect.ProtectedWords.mean_moment": lambda g: g.words.mean_moment,
    "protect.ProtectedWords.stacked": lambda g: g.words.stacked,
    "protect.ProtectedWords.lengths": lambda g: g.words.lengths,
    "protect.ProtectedWords.moment": lambda g: g.words.moment(g.words.alike),
    "protect.change_root": lambda g: change_root(square_root(g.gram), g.map),
    "protect.prior": lambda g: prior(g.words, g.penalty, 0.5),
    "protect.minimax": lambda g: minimax(lambda held: solve(g.C, g.T, held), g.words, g.gram, g.penalty, 0.5),
    "rece.derive": lambda g: derive(g.map, g.gram, g.C, 0.1),
    "rece.rece": lambda g: [rece(C, C.flip(0), g.penalty, g.gram, joint=joint) for C in (g.C, g.C.repeat(5, 1))
                            for joint in (False, True)],
    "recovery.Recovery.of": lambda g: g.recovery.values,
    "recovery.Recovery.floor": lambda g: [each.floor(g.C) for each in (g.recovery, singular(g))],
    "recovery.Recovery.norm": lambda g: [each.norm(g.C) for each in (g.recovery, singular(g))],
    "solve.Penalty.of": lambda g: [Penalty.of(0.1, P, D, device=g.device) for P in (g.P, None)],
    "solve.Penalty.with_prior": lambda g: g.penalty.with_prior(g.gram).with_prior(g.gram),
    "solve.Penalty.inside": lambda g: g.within.inside(),
    "solve.Penalty.coordinates": lambda g: g.within.coordinates(g.C),
    "solve.Penalty.matrix": lambda g: g.penalty.with_prior(g.gram).matrix(),
    "solve.solve": lambda g: [solve(C, C.flip(0), penalty) for C in (g.C, g.C.repeat(5, 1))
                              for penalty in (g.penalty, g.within)],
    "solve.down_factor": lambda g: down_factor(g.C, g.within),
    "solve.leverages": lambda g: leverages([g.C, g.square], g.penalty),
    "solve.whitened": lambda g: whitened(g.C, torch.linalg.cholesky(g.penalty.matrix())),
    "solve.solve_moments": lambda g: [solve_moments(g.moments.sources, g.moments.crossed, penalty)
                                      for penalty in (g.penalty, g.within)],
    "speed.influenced": lambda g: influenced(g.words, g.map, g.gram),
    "steering.Steering.of": lambda g: steering(g).solution.B,
    "steering.Steering.V": lambda g: steering(g).V,
    "steering.Steering.map": lambda g: steering(g).map(STEPS).dense(),
    "steering.Steering.solved": lambda g: [each.C for each in steering(g).solved(STEPS)[1:]],
    "steering.Steering.damage": lambda g: steering(g).damage(STEPS),
    "steering.Steering.reach": lambda g: steering(g).reach(),
    "steering.Steering.alike": lambda g: steering(g).alike(),
    "steering.Steering.pulls": lambda g: steering(g).pulls(),
    "steering.apart": lambda g: apart(g.moves[0]),
    "guarded.guard_of": lambda g: [guard_of(each) is None for each in (g.edit, guarded(g))],
    "guarded.Guarded.weights": lambda g: guarded(g).weights(g.weights),
    "guarded.Guarded.check_shapes": lambda g: guarded(g).check_shapes(g.weights),
    "guarded.Guarded.low_rank": lambda g: guarded(g).low_rank(g.weights, 0.1),
    "guarded.Guarded.change_roots": lambda g: list(guarded(g).change_roots(g.weights, g.gram)),
    "guarded.Guarded.stream_maps": lambda g: guarded(g).stream_maps({"text": TextStream(("a.to_k.weight",), D)}),
    "guarded.Guarded.gate": lambda g: guarded(g).gate,
    "guarded.Guarded.with_key": lambda g: guarded(g).with_key("cat", g.C),
    "tuned.Tuned.weights": lambda g: g.tuned.weights(g.weights),
    "tuned.Tuned.check_shapes": lambda g: g.tuned.check_shapes(g.weights),
    "tuned.Tuned.low_rank": lambda g: g.tuned.low_rank(g.weights, 0.1),
    "tuned.Tuned.change_roots": lambda g: list(g.tuned.change_roots(g.weights, g.gram)),
    "tuned.Tuned.with_key": lambda g: g.tuned.with_key("cat", g.C),
    "uce.uce_tensor": lambda g: uce_tensor([(g.C, g.T)], g.penalty, {"a": g.gram, "b": 2 * g.gram}),
}  # fmt: skip
"""Function → a call with tensors of one device. `Method.map`, `maps`, `held` and `solve` are run by `test_devices`."""


def measured(problem: Problem, protect: str) -> Any:
    with pytest.warns(UserWarning, match="blows up") if protect == "none" else nullcontext():
        return measure(Options(protect=protect).solve(problem), problem, checked=False)


def singular(given: Given) -> Recovery:
    """Of a map that loses what it erases."""
    return Recovery.of(hard(given.rows[:1], given.penalty, given.gram, 1, 0.5), given.gram)


def leaves(value: Any) -> Iterator[Any]:
    """What a result is made of."""
    if isinstance(value, Mapping):
        value = list(value.values())
    elif is_dataclass(value):
        value = [getattr(value, each.name) for each in fields(value)]
    if not isinstance(value, list | tuple):
        yield value
        return
    for each in value:
        yield from leaves(each)


def tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(value) if isinstance(leaf, Tensor)]


@pytest.fixture(scope="module")
def here() -> Given:
    return Given("cpu")


@pytest.mark.parametrize("name", CALLS)
def test_a_function_answers_on_the_device_of_what_it_is_given(name: str, here: Given) -> None:
    """And the same to 1e-8 as on the processor."""
    expected = CALLS[name](here)
    with second_device() as cuda:
        made = CALLS[name](Given(cuda))
        assert all(place(tensor) != CPU for tensor in tensors(made))
        values = [leaf.cpu() if isinstance(leaf, Tensor) else leaf for leaf in leaves(made)]
    for mine, theirs in zip(values, leaves(expected), strict=True):
        if isinstance(theirs, Tensor):
            torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)
        else:
            assert mine == (pytest.approx(theirs, rel=1e-8) if isinstance(theirs, float) else theirs)


MEANT = re.compile(
    r"\b(Tensor|EditMap|Rows|Problem|Penalty|ProtectedWords|Moments|Gate|LowRank|Recovery|Pair|Edit|Variant|Tuned)\b"
)
HOLDERS = (EditMap, Gate, LowRank, Moments, Penalty, Problem, ProtectedWords, Recovery, Rows, Steering)
BY_METHODS = {"map", "maps", "held", "solve"}


def public() -> Iterator[str]:
    """Every public function and method of `editkit.edits` that is given tensors, or holds or returns some."""
    for module in pkgutil.iter_modules(editkit.edits.__path__):
        known = vars(importlib.import_module(f"editkit.edits.{module.name}"))
        own = {
            name: each for name, each in known.items() if getattr(each, "__module__", "").endswith(f".{module.name}")
        }
        for name, each in own.items():
            if name.startswith("_"):
                continue
            if inspect.isfunction(each) and MEANT.search(str(inspect.signature(each))):
                yield f"{module.name}.{name}"
            elif inspect.isclass(each) and each is not Variant:
                yield from (f"{module.name}.{name}.{method}" for method in methods(each))


def methods(kind: type) -> Iterator[str]:
    for name, each in vars(kind).items():
        function = getattr(each, "__func__", None) or getattr(each, "fget", None) or each
        function = function.func if isinstance(function, cached_property) else function
        if (
            name.startswith("_")
            or not inspect.isfunction(function)
            or (issubclass(kind, Method) and name in BY_METHODS)
        ):
            continue
        if kind in HOLDERS or MEANT.search(str(inspect.signature(function))):
            yield name


def test_every_public_function_of_edits_is_among_them() -> None:
    assert sorted(public()) == sorted(CALLS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("rows", [4 * D, 3 * D])
def test_a_device_without_float64_sums_in_parts_and_solves_on_the_processor(dtype: torch.dtype, rows: int) -> None:
    weights = [randn(n, rows, D).to(dtype) for n in range(2)]
    exact = gram_matrix(weights, D, "float64")
    with second_device("mps") as mps:
        made = gram_matrix([W.to(mps) for W in weights], D)
        assert place(made) == CPU
        with pytest.raises(TypeError, match="float64"):
            weights[0].to(mps).double()
    torch.testing.assert_close(made, exact, rtol=0, atol=1e-8 * float(exact.norm()))


def test_maps_and_gates_stay_where_float64_is(here: Given) -> None:
    expected = moved({"text": here.half}, {"text": here.map}, here.gate)["text"]
    with second_device("mps") as mps:
        edit_map, gate, rows = here.map.to(mps), here.gate.to(mps), here.half.to(mps)
        assert all(place(tensor) == CPU for tensor in tensors([edit_map, gate]))
        made = moved({"text": rows}, {"text": edit_map}, gate)["text"]
        weight = edit_map.weight(here.weights["a.to_v.weight"].float().to(mps))
        assert place(made) == place(weight) != CPU
        assert torch.equal(made.cpu(), expected)


def test_a_card_with_slow_float64_solves_what_others_solve() -> None:
    """G is split there, and all else is float64."""
    weights = {name: randn(n, 60, D).float() for n, name in enumerate("kv")}

    def solved(device: str) -> EditMap:
        there = {name: W.to(device) for name, W in weights.items()}
        given = Given(device)
        problem = replace(given.problem, projections=there, gram=gram_matrix(there.values(), D))
        return Options("rece").solve(problem).maps["*"].to("cpu")

    with second_device(capability=(8, 6)) as cuda:
        slow = solved(cuda)
    with second_device(capability=(8, 0)) as cuda:
        fast = solved(cuda)
    assert not torch.equal(slow.dense(), fast.dense())
    torch.testing.assert_close(slow.dense(), fast.dense(), rtol=1e-8, atol=1e-8)
