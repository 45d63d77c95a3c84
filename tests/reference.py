"""The published edits, written straight from the papers: layer by layer, row by row, with explicit inverses.

Slow on purpose and independent of `editkit`: what the library computes with one shared map is held against this.
Everything is float64. Rows are embeddings, `(n, d)`; weights `W` are `(o, d)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Pair = tuple[Tensor, Tensor]


def correlated_rows(prompts: int, length: int, d: int, seed: int, size: float = 1.0) -> list[Tensor]:
    """Embeddings of `prompts` padded prompts, as a causal text encoder gives them: the first row is the same in all,
    a few rows of words follow, and the padding rows after them are nearly equal."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    start, common = normal(1, d), normal(1, d)
    rows = []
    for _ in range(prompts):
        words = normal(min(3, length - 1), d)
        padding = length - 1 - len(words)
        drift = torch.linspace(0, 0.05, padding, dtype=torch.float64)[:, None] * normal(1, d)
        tail = common + 0.5 * normal(1, d) + drift + 1e-3 * normal(padding, d)
        rows.append(size * torch.cat([start, words, tail]))
    return rows


def random_weights(outs: Sequence[int], d: int, seed: int) -> Weights:
    """One projection `(o, d)` for every `o`."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"layer{i}": torch.randn(o, d, generator=generator, dtype=torch.float64) / d**0.5 for i, o in enumerate(outs)
    }


def ridge(
    W: Tensor, C: Tensor, values: Tensor, P: Tensor | None, lamb: float, erase: float = 1.0, preserve: float = 1.0
) -> Tensor:
    """UCE Eq. 7, RECE Eq. 3: `(λW + s_e Σ v* cᵀ + s_p Σ W p pᵀ)(λI + s_e Σ c cᵀ + s_p Σ p pᵀ)⁻¹`, one projection."""
    mat1 = lamb * W
    mat2 = lamb * torch.eye(W.shape[1], dtype=torch.float64)
    for c, v in zip(C, values, strict=True):
        mat1 = mat1 + erase * torch.outer(v, c)
        mat2 = mat2 + erase * torch.outer(c, c)
    for p in P if P is not None else ():
        mat1 = mat1 + preserve * torch.outer(W @ p, p)
        mat2 = mat2 + preserve * torch.outer(p, p)
    return mat1 @ torch.linalg.inv(mat2)


def time(weights: Mapping[str, Tensor], source: Tensor, destination: Tensor, lamb: float) -> Weights:
    """TIME Eq. 4: `(λW + Σ W c* cᵀ)(λI + Σ c cᵀ)⁻¹`."""
    edited = {}
    for name, W in weights.items():
        mat1, mat2 = lamb * W, lamb * torch.eye(W.shape[1], dtype=torch.float64)
        for c, target in zip(source, destination, strict=True):
            mat1 = mat1 + torch.outer(W @ target, c)
            mat2 = mat2 + torch.outer(c, c)
        edited[name] = mat1 @ torch.linalg.inv(mat2)
    return edited


def uce(
    weights: Mapping[str, Tensor],
    concepts: Sequence[Pair],
    P: Tensor | None,
    lamb: float,
    erase: float = 1.0,
    preserve: float = 1.0,
    tensor: bool = False,
) -> Weights:
    """UCE of `(C, C*)` pairs. `tensor`: the target is `W C*` without its component along `W C`, all rows as one."""
    edited = {}
    for name, W in weights.items():
        sources, values = [], []
        for C, targets in concepts:
            old, new = torch.stack([W @ c for c in C]), torch.stack([W @ c for c in targets])
            if tensor:
                unit = old / torch.sqrt((old**2).sum())
                new = new - (unit * new).sum() * unit
            sources.append(C)
            values.append(new)
        edited[name] = ridge(W, torch.cat(sources), torch.cat(values), P, lamb, erase, preserve)
    return edited


def derived(old: Mapping[str, Tensor], new: Mapping[str, Tensor], C: Tensor, reg: float) -> Tensor:
    """RECE Eq. 8 for every row: `c' = (λI + Σ_i W_newᵀ W_new)⁻¹ (Σ_i W_newᵀ W_old) c`."""
    left = reg * torch.eye(C.shape[1], dtype=torch.float64)
    right = torch.zeros(C.shape[1], C.shape[1], dtype=torch.float64)
    for name, W in old.items():
        left = left + new[name].T @ new[name]
        right = right + new[name].T @ W
    solution = torch.linalg.inv(left) @ right
    return torch.stack([solution @ c for c in C])


def rece(
    weights: Mapping[str, Tensor],
    concepts: Sequence[Pair],
    P: Tensor | None,
    lamb: float,
    reg: float,
    epochs: int,
    erase: float = 1.0,
    preserve: float = 1.0,
    joint: bool = False,
) -> Weights:
    """RECE Algorithm 1: every epoch derives with Eq. 8 and edits the *current* weights with Eq. 3.

    `joint` is editkit's own variant: all rows derived so far are erased at once from the original weights.
    """
    new = uce(weights, concepts, P, lamb, erase, preserve)
    pairs = list(concepts)
    for _ in range(epochs):
        again = [(derived(weights, new, C, reg), targets) for C, targets in concepts]
        pairs += again
        new = uce(weights, pairs, P, lamb, erase, preserve) if joint else uce(new, again, P, lamb, erase, preserve)
    return new


def cure(weights: Mapping[str, Tensor], forget: Tensor, retain: Tensor, alpha: float) -> Weights:
    """CURE: `W (I − P_f + P_f P_r)` with `P = Σ f_i v_i v_iᵀ`, `f_i = α r_i / ((α − 1) r_i + 1)`, `r_i` = σ² shares."""

    def projector(rows: Tensor) -> Tensor:
        _, sizes, V = torch.linalg.svd(rows, full_matrices=False)
        total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
        for size, v in zip(sizes, V, strict=True):
            r = size**2 / (sizes**2).sum()
            total = total + alpha * r / ((alpha - 1) * r + 1) * torch.outer(v, v)
        return total

    P_f, P_r = projector(forget), projector(retain)
    return {name: W @ (torch.eye(W.shape[1], dtype=torch.float64) - P_f + P_f @ P_r) for name, W in weights.items()}


def complement(rows: Tensor) -> Tensor:
    """The projector on what no row uses, `(d, d)`."""
    return torch.eye(rows.shape[1], dtype=torch.float64) - torch.linalg.pinv(rows) @ rows


def speed(
    weights: Mapping[str, Tensor], C: Tensor, targets: Tensor, P: Tensor, held: Tensor, alpha: float, slack: float
) -> Weights:
    """SPEED as its code has it, a layer at a time: `ΔW = W (T − S) P (I − M̃ K2 (K2ᵀP M̃ K2 + λ_c I)⁻¹ K2ᵀP) M̃` with
    `M̃ = (S P + αI)⁻¹`.

    Args:
        P: the projector on the null space.
        held: K2, as rows `(k, d)`.
    """
    S, T = C.T @ C / len(C), targets.T @ C / len(C)
    eye = torch.eye(C.shape[1], dtype=torch.float64)
    M = torch.linalg.inv(S @ P + alpha * eye)
    K2 = held.T
    inner = torch.linalg.pinv(K2.T @ P @ M @ K2 + slack * torch.eye(len(held), dtype=torch.float64), rtol=1e-10)
    return {name: W + W @ (T - S) @ P @ (eye - M @ K2 @ inner @ K2.T @ P) @ M for name, W in weights.items()}


def dp(weights: Mapping[str, Tensor], C: Tensor, targets: Tensor, P: Tensor) -> Weights:
    """DP for a single row: `ΔW = W (c* − c) (P c)ᵀ / ‖P c‖²` with `P` the projector on what is not protected."""
    (c,), (target,) = C, targets
    return {name: W + torch.outer(W @ (target - c), P @ c) / (P @ c).square().sum() for name, W in weights.items()}


def oce(weights: Mapping[str, Tensor], C: Tensor, targets: Tensor, held: Tensor, erase: float) -> Weights:
    """OCE: `A = −s_e P (I − P*) + W B Wᵀ` with projectors on the normalised `W c` and `W c*`, `A = U Σ Vᵀ`, and
    `U Vᵀ W`, where a reflection turns back the direction that counts least.

    Args:
        held: `B = s_c Σ p pᵀ + s_g C_g + λ I`.
    """
    turned = {}
    for name, W in weights.items():
        mine, theirs = ((W @ rows.T / (W @ rows.T).norm(dim=0)) for rows in (C, targets))
        eye = torch.eye(len(W), dtype=torch.float64)
        away = eye - theirs @ torch.linalg.pinv(theirs)
        U, _, Vt = torch.linalg.svd(W @ held @ W.T - erase * mine @ torch.linalg.pinv(mine) @ away)
        if torch.linalg.det(U @ Vt) < 0:
            U[:, -1] *= -1
        turned[name] = U @ Vt @ W
    return turned
