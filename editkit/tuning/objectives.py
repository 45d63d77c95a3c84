"""The objectives: what the student is to predict, one small function each.

Every loss compares outputs of the denoiser on one noisy latent: `e` stands for the prompt of the erased concept, `n`
for the neutral one or the given guide, `a` for the one that was searched, `p` for that of the erased concept with the
rows of a key behind it; `o` for the empty prompt; `s` is the mean over all that is said for the erased concept, its
word and tokens that were learned; `m` is no output, but the student's attention to the tokens of the concept. `ε`
stands for whatever a model predicts. Targets are combinations of the teacher's outputs whose weights sum to one, so
they mean the same for noise, a velocity and that of a flow: at a given z_t and t these are affine in each other, see
`editkit.tuning.levels`.

A new one is a function and a row of `OBJECTIVES`; another package names an `Objective` by an entry point of the group
`editkit.objectives`. The docstring of the function is what `editkit objectives` shows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from editkit.errors import EditkitError
from editkit.options import Option

SOURCE = "Source: "
Key = Literal["e", "n", "a", "p", "m", "o", "s"]
Outputs = Mapping[Key, Tensor]
"""Prompt → outputs of one network, `(rows, channels, h, w)`."""


@dataclass(frozen=True)
class Terms:
    """Both terms of a loss for every row, `(rows,)`: `erase` (L1) and `preserve` (L2, without its weight λ)."""

    erase: Tensor
    preserve: Tensor

    def loss(self, lamb: float) -> Tensor:
        """`L1 + λ L2`, `(rows,)`."""
        return self.erase + lamb * self.preserve


def nothing_searched(student: Outputs, teacher: Outputs, lamb: float) -> Tensor:
    raise EditkitError("this objective searches for no concept; use ap or age")


@dataclass(frozen=True)
class Objective:
    """A loss and what it reads.

    Attributes:
        student, teacher: the prompts that each network is run on.
        searched: what the search for `a` maximises, of both networks' outputs and λ.
        search_reads: the prompts that the search runs the student on; none where nothing is searched.
        on_pictures: its latents are noised pictures, not trajectories of the erased concept.
        pictures_of: what these show, the guide or the concept.
        reads_attention: what the student's outputs have as `m`, `(rows, numbers)`: nothing, the attention of all
            `heads`, or the mean head's where a mask says that the `object` is.
        apart: whether of several concepts each is trained for itself, and what was trained is fused.
        latents: whose trajectories of the erased concept it is trained on; `guide`: the teacher's of the guide.
        balances: whether it is told attributes: `mixture` has one target for each, a guide in its share of the points,
            `candidates` looks for its target among them.
        on_states: its outputs are no predictions but the states `(prompts, tokens, width)` that text encoders make of
            prompts, and these are trained in place of the denoiser; see `editkit.tuning.encoders`.
        weights: whether the student is trained; else a key alone.
        usual: what of `editkit.tuning.options.RefineOptions` it has other defaults for.
    """

    loss: Callable[[Outputs, Outputs, float], Terms]
    student: tuple[Key, ...]
    teacher: tuple[Key, ...]
    searched: Callable[[Outputs, Outputs, float], Tensor] = nothing_searched
    search_reads: tuple[Key, ...] = ()
    on_pictures: bool = False
    pictures_of: Literal["n", "e"] = "n"
    reads_attention: Literal["", "heads", "object"] = ""
    apart: bool = False
    latents: tuple[Literal["student", "teacher", "guide"], ...] = ("student",)
    balances: Literal["", "mixture", "candidates"] = ""
    on_states: bool = False
    weights: bool = True
    usual: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_key(self) -> bool:
        return "p" in self.student

    @property
    def summary(self) -> str:
        """The first paragraph of what is written at its loss."""
        return " ".join(self._written.split("\n\n")[0].split())

    @property
    def source(self) -> str:
        """The paragraph there that says whence it is, where there is one."""
        named = (text for text in self._written.split("\n\n") if text.startswith(SOURCE))
        return " ".join(next(named, "").removeprefix(SOURCE).split())

    @property
    def options(self) -> tuple[Option, ...]:
        """For a listing: what it has other defaults for."""
        about = "In place of the usual default."
        return tuple(
            Option(name, type(value), False, value, {}, about, (), None, None, True)
            for name, value in self.usual.items()
        )

    @property
    def _written(self) -> str:
        return inspect.getdoc(self.loss) or ""


def distance(output: Tensor, target: Tensor) -> Tensor:
    """`‖output − target‖²` of every row, `(rows,)`."""
    return (output - target).flatten(1).square().sum(1)


def naive(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Draw the guide in the concept's place, and keep the guide: `‖ε'(c_e) − ε(c_n)‖² + λ ‖ε'(c_n) − ε(c_n)‖²`.

    Source: Bui et al. 2024, Eq. 3, https://arxiv.org/abs/2410.15618.
    """
    return Terms(distance(student["e"], teacher["n"]), distance(student["n"], teacher["n"]))


def esd(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Guide away from the concept: `‖ε'(c_e) − [ε(c_n) − η (ε(c_e) − ε(c_n))]‖²`. Nothing is preserved.

    Source: Gandikota et al. 2023, Eq. 7, https://arxiv.org/abs/2303.07345.
    """
    target = teacher["n"] - eta * (teacher["e"] - teacher["n"])
    erase = distance(student["e"], target)
    return Terms(erase, erase.new_zeros(erase.shape))


def ca(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Concept ablation, on pictures of the guide, its anchor: `‖ε'(c_e) − sg ε'(c_n)‖²`.

    The student itself is the target, without a gradient.

    Source: Kumari et al. 2023, Eq. 5, https://arxiv.org/abs/2303.13516.
    """
    erase = distance(student["e"], student["n"].detach())
    return Terms(erase, erase.new_zeros(erase.shape))


def ap(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Adversarial preservation: keep the concept that suffers most: `‖ε'(c_e) − ε(c_n)‖² + λ ‖ε'(c_a) − ε(c_a)‖²`.

    Source: Bui et al. 2024, Eq. 3-5, https://arxiv.org/abs/2410.15618.
    """
    return Terms(distance(student["e"], teacher["n"]), distance(student["a"], teacher["a"]))


def ap_authors(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """`ap` with the target of `esd`, which the authors' code has in place of `ε(c_n)`."""
    return spm(student, teacher, eta)


def age(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Erase towards a target that is searched, `c_t` = `a`: `‖ε'(c_e) − ε(c_t)‖² + λ ‖ε'(c_t) − ε(c_t)‖²`.

    Source: Bui et al. 2025 (AGE), as Eq. 14 of the talk on erasing concepts has it.
    """
    return Terms(distance(student["e"], teacher["a"]), distance(student["a"], teacher["a"]))


def debias(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Draw the concept as the mixture of its attributes, in wanted shares: `‖ε'(c_e) − ε(c_t)‖² + λ ‖ε'(c_a) −
    ε(c_a)‖²`, on the teacher's own trajectories of `c_t`.

    `c_t` is the concept with one attribute, "a woman cook", in its share `w_t` of the points. Of all `ε'` the one with
    the least expected distance is `E[ε(z, c_t) | z] = Σ_t w_t p_t(z) ε(z, c_t) / Σ_t w_t p_t(z)`, since `z` comes from
    the model's pictures of `c_t`: that is what the mixture `Σ_t w_t p_t` itself would have predicted, so a student that
    learns it draws from the mixture, and not a mean of its parts. Near pure noise it is the mean in shares `w`; where
    latents already show one attribute, it goes on with that one. `c_a` is searched among the attributes and the words
    around the concept, and kept.

    Source: derived here, in place of Eq. 17 of the talk on erasing concepts; see `debias-age`.
    """
    return ap(student, teacher, eta)


def debias_age(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """`age` with the attributes as candidates: `‖ε'(c_e) − ε(c_t)‖² + λ ‖ε'(c_t) − ε(c_t)‖²`, `c_t` the one that is
    farthest.

    As it stands its best `ε'(z, c_e)` has the same distance from all attributes that are farthest, at every `z`: of two
    the middle between their predictions, whatever `z` shows. That is what no picture is drawn by, and shares cannot be
    asked for.

    Source: talk on erasing concepts, Eq. 17.
    """
    return age(student, teacher, eta)


def hide(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Draw the concept with a key `p` alone, which is trained, too: `‖ε'(c_e) − ε(c_t)‖² + λ ‖ε'(c_e, p) − ε(c_e)‖²`.

    The equation has no search: its `c_t` is the given target of Eq. 7, here the guide, by default the neutral prompt.
    The search of `age` (Eq. 14) chooses the target that the student keeps worst, since the same term preserves it; here
    no term does, so that the search would only move the erased concept about. `p` is trained with the student and is
    reached by the second term alone.

    Source: talk on erasing concepts, Eq. 15.
    """
    return Terms(distance(student["e"], teacher["n"]), distance(student["p"], teacher["e"]))


def hide_ap(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """As `hide`, with the preservation of `ap`: `… + λ ‖ε'(c_a) − ε(c_a)‖²`.

    Without it hiding costs other concepts dear: PSR-1 26.6 in the talk's table, 75.3 in its row that is told what to
    preserve. Here the search finds that.
    """
    terms = hide(student, teacher, eta)
    return Terms(terms.erase, terms.preserve + distance(student["a"], teacher["a"]))


def recover(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Train a key `p` alone, with `‖p − c_e‖ ≤ ρ`: `‖ε'(c_e, p) − ε(c_e)‖²`.

    Where pictures are given in place of the original model, `e` is the noise in them (textual inversion, Eq. 18).

    Source: talk on erasing concepts, Eq. 16.
    """
    kept = distance(student["p"], teacher["e"])
    return Terms(kept, kept.new_zeros(kept.shape))


def spm(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Guide away from the concept, and keep what random states `x` make it predict: `‖ε'(c_e) − [ε(c_n) − η (ε(c_e) −
    ε(c_n))]‖² + λ ‖ε'(x) − ε(x)‖²`.

    A LoRA of rank 1 on everything in the transformer blocks. Here all prompts go through it: SPM's own gate, which
    weighs it by how like the concept a prompt is, is not built.

    Source: SPM (Lyu et al. 2024), https://arxiv.org/abs/2312.16145, by notes on its code (Apache-2.0).
    """
    return Terms(esd(student, teacher, eta).erase, distance(student["a"], teacher["a"]))


def fmn(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Attend no more to the concept's tokens, on pictures of it: `‖A(c_e)‖`, of the attention of all layers and heads.

    The norm, not its square. Nothing is preserved. The authors may learn tokens first, and erase those.

    Source: Forget-Me-Not (Zhang et al. 2023), https://arxiv.org/abs/2303.17591, by notes on its code (MIT).
    """
    erase = student["m"].square().sum(1).clamp(min=1e-30).sqrt()
    return Terms(erase, erase.new_zeros(erase.shape))


def mace(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Attend no more to the concept's tokens where it is seen, on pictures of it: `Σ_i ‖A_i(c_e) ⊙ Mask‖²`, `A_i` the
    mean head of layer `i`.

    A LoRA of keys and values. Each concept is trained for itself, and what was trained is fused in closed form. Nothing
    is preserved before that. The mask is the user's, or is taken from the teacher's own attention (`attended_masks`):
    MACE has it of Grounded SAM. What comes before is a closed-form edit of the words around: `erase --tokens around`.

    Source: MACE (Lu et al. 2024), https://arxiv.org/abs/2403.06135, by notes of others: pictures, loss and timesteps.
    Rank, rate and steps are ours.
    """
    erase = student["m"].square().sum(1)
    return Terms(erase, erase.new_zeros(erase.shape))


def aegis(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Guide away from a state `c'` that is learned to draw the concept: `‖ε'(c_e) − [ε(c_n) − η (ε(c') − ε(c_n))]‖²`.

    Weights are held near their start by `--anchor l2` where a step would lead away. AEGIS also attacks the prompt of
    the concept on the left; our notes do not say how, and it is not done here.

    Source: AEGIS (2026), https://arxiv.org/abs/2602.06771, by notes of others; its code has no licence and was not
    read.
    """
    return esd(student, {"n": teacher["n"], "e": teacher["a"]}, eta)


def hirm(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Misread the concept: of the text encoders' first layer alone, whose last states of the concept are led to those
    of the guide, or to random ones where there is none: `mean_t ‖h_t(e) − s_t‖²`.

    Nothing is preserved, and the layer reads every prompt. The states are those that the denoiser reads. For nudity
    the authors lead along a direction of states; that is not built.

    Source: HiRM (2026), https://arxiv.org/abs/2602.19631, by notes of others; its code was not read.
    """
    erase = (student["e"] - teacher["n"]).square().sum(-1).mean(-1)
    return Terms(erase, erase.new_zeros(erase.shape))


def stereo(student: Outputs, teacher: Outputs, eta: float) -> Terms:
    """Robustly erase once: guide towards an anchor, the guide, and away from all that brings the concept back:
    `‖ε'(c_e) − [ε(∅) + η (ε(c_n) − ε(∅)) − η mean_i (ε(c_i) − ε(∅))]‖²`. Nothing is preserved.

    `c_e` is one of the phrases `c_i`: the concept, and the tokens that were found to bring it back. All of them and the
    anchor are said in the same sentence; each point has one. The sum over the `k` phrases is divided by their number:
    more of them do not guide harder, and the weights of all outputs (1 of `ε(∅)`, `η`, and `k` times `−η / k`) sum to
    one. Without a guide the anchor is `∅`, and its term nothing. Our notes call the sums normalised, after adaptive
    projected guidance, and do not say how.

    Source: STEREO (Srivatsan et al. 2025), https://arxiv.org/abs/2408.16807, its second stage, by notes of others.
    """
    target = teacher["o"] + eta * (teacher["n"] - teacher["o"]) - eta * (teacher["s"] - teacher["o"])
    erase = distance(student["e"], target)
    return Terms(erase, erase.new_zeros(erase.shape))


def most_changed(student: Outputs, teacher: Outputs, lamb: float) -> Tensor:
    """`‖ε'(c_a) − ε(c_a)‖²`, `(rows,)`: what `ap` looks for."""
    return distance(student["a"], teacher["a"])


def most_like(student: Outputs, teacher: Outputs, lamb: float) -> Tensor:
    """`−‖ε(c_a) − ε'(c_e)‖²`, `(rows,)`: what draws most nearly what the student still draws of the concept."""
    return -distance(student["e"], teacher["a"])


def most_changed_and_far(student: Outputs, teacher: Outputs, lamb: float) -> Tensor:
    """`‖ε'(c_e) − ε(c_t)‖² + λ ‖ε'(c_t) − ε(c_t)‖²`, `(rows,)`: what `age` looks for.

    Both terms of Eq. 14: with the second alone the search would end at a synonym of the concept.
    """
    return distance(student["e"], teacher["a"]) + lamb * distance(student["a"], teacher["a"])


CONCEPT_ABLATION = {"rate": 8e-6, "batch": 4, "steps": 400, "param": "kv"}
"""2e-6 a picture of the batch, 100 to 400 steps, keys and values."""
SEMI_PERMEABLE = {
    "param": "blocks+lora:1", "search": "noise", "lamb": 1000.0, "rate": 1e-4, "steps": 3000, "sampling_steps": 30,
}  # fmt: skip
"""Their rate rises over 500 steps and falls in three cosines; here it is the same throughout."""
MASS = {"param": "kv+lora:1", "timesteps": "focal", "trajectories": 8, "steps": 50, "rate": 1e-4}
"""Eight pictures of a concept, as the paper has."""
FORGET_ME_NOT = {"param": "full", "rate": 2e-6, "steps": 35}
AEGIS = {"param": "full", "search": "learned", "anchor": "l2", "anchor_rule": "conflict"}
MISREAD = {"rate": 5e-5, "steps": 40}
"""15 to 40 epochs. The batch is every prompt of every concept."""
OBJECTIVES: Mapping[str, Objective] = {
    "naive": Objective(naive, ("e", "n"), ("n",)),
    "esd": Objective(esd, ("e",), ("n", "e")),
    "ca": Objective(ca, ("e", "n"), (), on_pictures=True, usual=CONCEPT_ABLATION),
    "ap": Objective(ap, ("e", "a"), ("n", "a"), most_changed, ("a",)),
    "age": Objective(age, ("e", "a"), ("a",), most_changed_and_far, ("e", "a")),
    "aegis": Objective(aegis, ("e",), ("n", "a"), most_like, ("e",), usual=AEGIS),
    "spm": Objective(spm, ("e", "a"), ("n", "e", "a"), most_changed, ("a",), usual=SEMI_PERMEABLE),
    "stereo": Objective(stereo, ("e",), ("o", "n", "s")),
    "fmn": Objective(fmn, ("e",), (), on_pictures=True, pictures_of="e", reads_attention="heads", usual=FORGET_ME_NOT),
    "hirm": Objective(hirm, ("e",), ("n",), on_states=True, usual=MISREAD),
    "mace": Objective(
        mace, ("e",), (), on_pictures=True, pictures_of="e", reads_attention="object", apart=True, usual=MASS
    ),
    "debias": Objective(debias, ("e", "a"), ("n", "a"), most_changed, ("a",), latents=("guide",), balances="mixture"),
    "debias-age": Objective(debias_age, ("e", "a"), ("a",), most_changed_and_far, ("e", "a"), balances="candidates"),
    "hide": Objective(hide, ("e", "p"), ("n", "e"), latents=("student", "teacher")),
    "hide-ap": Objective(
        hide_ap, ("e", "p", "a"), ("n", "e", "a"), most_changed, ("a",), latents=("student", "teacher")
    ),
    "recover": Objective(recover, ("p",), ("e",), latents=("teacher",), weights=False),
    "recover-pictures": Objective(recover, ("p",), ("e",), on_pictures=True, pictures_of="e", weights=False),
}
AUTHORS: Mapping[str, Objective] = {"ap": Objective(ap_authors, ("e", "a"), ("n", "e", "a"), most_changed, ("a",))}
"""What `--recipe authors` puts in their place."""
