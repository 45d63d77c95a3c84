"""CLIP's text transformer, as far as an edit needs it: the hidden states of many token sequences at once.

transformers' own class gives the same rows (tested). What this one is for is time: importing that one takes 1.5 s, a
fifth of a whole edit; and a row of a causal transformer depends on what stands before it alone, so sequences that begin
alike ("a church", "a dog") share those rows, and each is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention, silu

from editkit.errors import EditkitError
from editkit.files.lazy import Lazy

PACK = 160
"""Positions of a pack: attention costs their square, and every pack repeats what its sequences begin with. Two whole
prompts of 77 fit in one."""

AT_A_TIME = 2048
"""Positions that go through a layer at a time."""

ACTIVATIONS: Mapping[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "gelu": (gelu, 1.0),
    "quick_gelu": (lambda x: silu(x, inplace=True), 1.702),
}
"""Function `f` and scale `s`: the activation is `f(s x) / s`, and the scale goes into the weights around it. So quick
GELU, `x sigmoid(1.702 x)`, is one pass over memory and not three."""

PROJECTION = "text_projection.weight"
LAYER = (
    "layer_norm1", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "layer_norm2",
    "mlp.fc1", "mlp.fc2",
)  # fmt: skip


@dataclass(frozen=True)
class ClipText:
    """A text model of CLIP (Radford et al. 2021, section 2.4) or OpenCLIP.

    Attributes:
        tensors: weights by transformers' names for `CLIPTextModel`; `text_projection.weight` where there is one. Those
            of files stay there: a layer is read when rows go through it.
        layers, heads, activation, eps: as in its configuration.
        end: id of the end token, at which a prompt's pooled vector is read. 2 means the highest id: old configurations
            say 2 and do not mean it.
    """

    tensors: Mapping[str, Tensor]
    layers: int
    heads: int
    activation: str = "quick_gelu"
    eps: float = 1e-5
    end: int = 2

    @classmethod
    def of(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], projected: bool) -> ClipText:
        """From the values of a `CLIPTextConfig`; what is left out there is transformers' default.

        `tensors` may have the prefix `text_model.` of older files, and more than is needed. The text projection is left
        out unless `projected`.

        Raises:
            EditkitError: an activation that no released model has.
            KeyError: a tensor is missing.
        """
        config = config.get("text_config") or config
        activation = config.get("hidden_act", "quick_gelu")
        if activation not in ACTIVATIONS:
            raise EditkitError(
                f"text encoder: hidden_act must be one of {', '.join(ACTIVATIONS)}, but its config says {activation!r}"
            )
        layers = int(config.get("num_hidden_layers", 12))
        return cls(
            _named(tensors, layers, projected),
            layers,
            int(config.get("num_attention_heads", 8)),
            activation,
            float(config.get("layer_norm_eps", 1e-5)),
            int(config.get("eos_token_id", 49407)),
        )

    @cached_property
    def width(self) -> int:
        return self.tensors["embeddings.token_embedding.weight"].shape[1]

    @cached_property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        return self.tensors["embeddings.token_embedding.weight"].shape[0]

    @cached_property
    def positions(self) -> int:
        """The longest sequence that it reads."""
        return self.tensors["embeddings.position_embedding.weight"].shape[0]

    @property
    def projected(self) -> int:
        """Width of the projected pooled vector."""
        return self.tensors[PROJECTION].shape[0]

    @torch.no_grad()
    def rows(self, sequences: Sequence[Sequence[int]], layer: int | None = None, coarse: bool = False) -> Tensor:
        """`(Σ lengths, width)` float32: the rows of every sequence of token ids, one sequence after another.

        Args:
            layer: None: those after the final norm. Else as an index of transformers' `hidden_states`: -2 is what the
                last layer is given.
            coarse: multiply in bfloat16.
        """
        return self.packed_rows(pack(sequences), layer, coarse)

    @torch.no_grad()
    def packed_rows(self, packs: Packs, layer: int | None = None, coarse: bool = False) -> Tensor:
        """`rows` of sequences that are laid out already."""
        rows = self._embed(packs)
        self._run(rows, packs, range(self.layers if layer is None else range(self.layers + 1)[layer]), coarse)
        if layer is None:
            rows = self.final_norm(rows)
        return rows.reshape(-1, self.width)[packs.rows]

    @torch.no_grad()
    def rows_and_pooled(
        self, sequences: Sequence[Sequence[int]], projected: bool, coarse: bool = False
    ) -> tuple[Tensor, Tensor]:
        """`rows` with the layer -2 of sequences that reach their end token, and `pooled`: that costs one more layer,
        and by itself all of them."""
        packs = pack(sequences)
        rows = self._embed(packs)
        self._run(rows, packs, range(self.layers - 1), coarse)
        before = rows.reshape(-1, self.width)[packs.rows]
        self._run(rows, packs, range(self.layers - 1, self.layers), coarse)
        starts = torch.tensor([0, *map(len, sequences)]).cumsum(0)[:-1]
        ends = starts + torch.tensor([self._end_of(ids) for ids in sequences])
        return before, self._projected(self.final_norm(rows.reshape(-1, self.width)[packs.rows[ends]]), projected)

    def _run(self, rows: Tensor, packs: Packs, layers: range, coarse: bool) -> None:
        """Send `rows` `(packs, size, width)` through layers, in place."""
        kind = torch.bfloat16 if coarse else torch.float32
        step = max(1, AT_A_TIME // packs.ids.shape[1])
        for n in layers:
            weights = self.layer_weights(n, kind)
            for some in range(0, len(rows), step):
                part, mask = rows[some : some + step], packs.sees[some : some + step, None]
                part += self.attend(part, mask, weights)
                part += self.transform(part, weights)

    def pooled(self, sequences: Sequence[Sequence[int]], projected: bool, coarse: bool = False) -> Tensor:
        """The row of the end token, `(sequences, width)`, or after the text projection `(sequences, projected)`."""
        cut = [ids[: self._end_of(ids) + 1] for ids in sequences]
        lengths = torch.tensor([len(ids) for ids in cut])
        ends = self.rows(cut, coarse=coarse)[lengths.cumsum(0) - 1]
        return self._projected(ends, projected)

    def _projected(self, ends: Tensor, projected: bool) -> Tensor:
        return linear(ends, self.tensors[PROJECTION].float()) if projected else ends

    def _end_of(self, ids: Sequence[int]) -> int:
        if self.end == 2:
            return max(range(len(ids)), key=lambda at: ids[at])
        return list(ids).index(self.end) if self.end in ids else 0

    def _embed(self, packs: Packs) -> Tensor:
        if packs.last >= self.vocabulary:
            raise EditkitError(
                f"text encoder: knows {self.vocabulary:,} tokens, but its tokenizer gives number {packs.last:,}; the "
                "two do not belong together, save both from one pipeline"
            )
        tokens, places = (self.tensors[f"embeddings.{name}_embedding.weight"] for name in ("token", "position"))
        return tokens[packs.ids].float() + places[packs.places].float()

    def layer_weights(self, n: int, kind: torch.dtype) -> dict[str, Tensor]:
        """Weights of a layer, those of query, key and value in one."""
        start, scale = f"encoder.layers.{n}.", ACTIVATIONS[self.activation][1]
        ends = ("weight", "bias")
        tensors = {f"{part}.{end}": self.tensors[f"{start}{part}.{end}"].float() for part in LAYER for end in ends}
        tensors |= {
            f"qkv.{end}": torch.cat([tensors.pop(f"self_attn.{letter}_proj.{end}") for letter in "qkv"]) for end in ends
        }
        if scale != 1:  # the activation: see `ACTIVATIONS`
            tensors |= {f"mlp.fc1.{end}": tensors[f"mlp.fc1.{end}"] * scale for end in ends}
            tensors["mlp.fc2.weight"] = tensors["mlp.fc2.weight"] / scale
        return {name: tensor if "norm" in name else tensor.to(kind) for name, tensor in tensors.items()}

    def attend(self, rows: Tensor, sees: Tensor | None, weights: Mapping[str, Tensor]) -> Tensor:
        """What attention adds to `rows` `(batch, length, width)`.

        Args:
            sees: which positions a position attends to; None: itself and all before it.
        """
        together = _linear(self._norm(rows, "layer_norm1", weights), "qkv", weights)
        q, k, v = together.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v, sees, is_causal=sees is None).transpose(1, 2).flatten(2)
        return _linear(attended, "self_attn.out_proj", weights)

    def transform(self, rows: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """What the two-layer network adds to `rows`."""
        inner = _linear(self._norm(rows, "layer_norm2", weights), "mlp.fc1", weights)
        return _linear(ACTIVATIONS[self.activation][0](inner), "mlp.fc2", weights)

    def final_norm(self, rows: Tensor) -> Tensor:
        """The norm after the last layer."""
        return self._norm(rows, "final_layer_norm", self.tensors)

    def _norm(self, rows: Tensor, name: str, weights: Mapping[str, Tensor]) -> Tensor:
        return layer_norm(
            rows, (self.width,), weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float(), self.eps
        )


def _linear(rows: Tensor, name: str, weights: Mapping[str, Tensor]) -> Tensor:
    weight = weights[f"{name}.weight"]
    return linear(rows.to(weight.dtype), weight, weights[f"{name}.bias"])


def _named(tensors: Mapping[str, Tensor], layers: int, projected: bool) -> Lazy[Tensor]:
    own = {name.removeprefix("text_model."): name for name in tensors}
    parts = ["final_layer_norm", *(f"encoder.layers.{n}.{part}" for n in range(layers) for part in LAYER)]
    names = ["embeddings.token_embedding.weight", "embeddings.position_embedding.weight"]
    names += [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    return Lazy.of(tensors, {name: own.get(name, name) for name in [*names, *([PROJECTION] if projected else [])]})


@dataclass(frozen=True)
class Packs:
    """Sequences laid out so that what several begin with stands once in a pack.

    Attributes:
        ids, places: token and position in its sequence, `(packs, size)`.
        sees: which positions a position attends to, `(packs, size, size)`: itself and what stands before it.
        rows: where the rows of the sequences are, one sequence after another, in the flattened packs.
        last: the highest token.
    """

    ids: Tensor
    places: Tensor
    sees: Tensor
    rows: Tensor
    last: int


def pack(sequences: Sequence[Sequence[int]]) -> Packs:
    """Lay out sequences as prefix trees.

    A row depends on the tokens up to its own and on nothing else, so that sequences share the rows of what they begin
    with. A pack is a tree: its nodes are beginnings, numbered as they come, and a node sees its ancestors alone. In
    sorted order those with a beginning in common are neighbours, and mostly in one pack.
    """
    limit = max(PACK, *(len(sequence) for sequence in sequences))
    order = sorted(range(len(sequences)), key=lambda n: list(sequences[n]))
    packs: list[dict[tuple[int, ...], int]] = []
    at: dict[int, tuple[int, list[int]]] = {}
    for n in order:
        starts = [tuple(sequences[n][: end + 1]) for end in range(len(sequences[n]))]
        if not packs or len(packs[-1]) + sum(start not in packs[-1] for start in starts) > limit:
            packs.append({})
        at[n] = len(packs) - 1, [packs[-1].setdefault(start, len(packs[-1])) for start in starts]
    size = max(len(pack) for pack in packs)
    ids, places = (torch.zeros(len(packs), size, dtype=torch.long) for _ in range(2))
    for p, pack in enumerate(packs):
        ids[p, : len(pack)] = torch.tensor([start[-1] for start in pack])
        places[p, : len(pack)] = torch.tensor([len(start) - 1 for start in pack])
    before = torch.ones(size, size, dtype=torch.bool).tril()
    sees = torch.eye(size, dtype=torch.bool).repeat(len(packs), 1, 1)
    for p, nodes in at.values():
        mine = torch.tensor(nodes)
        sees[p, mine[:, None], mine] = before[: len(nodes), : len(nodes)]
    rows = torch.tensor([at[n][0] * size + node for n in range(len(sequences)) for node in at[n][1]])
    return Packs(ids, places, sees, rows, int(ids.max()))
