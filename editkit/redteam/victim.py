"""The model under attack: the one that is given, edited."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from editkit.drawing.pipelines.denoiser import Condition, Denoiser
from editkit.edits.edit_map import EditMap
from editkit.edits.gate import Gate
from editkit.edits.variant import Variant
from editkit.errors import EditkitError
from editkit.model.apply import apply_edit
from editkit.model.encoder_weights import encoders_of
from editkit.redteam.cost import Cost


@dataclass(frozen=True)
class Victim:
    """A denoiser with a variant in it: as maps on the rows that it reads where that is the same, else in its weights.

    Rows go in as the text encoder gives them, unedited; so whoever attacks by rows attacks the map and the gate, too.

    Attributes:
        denoiser: with the variant's weights where there are no maps.
        variant: None is the unedited model.
        maps: stream → map, float32, on the denoiser's device.
        gate: decides which prompts go through the maps; None: all.
        reads: whether text encoders of its own read prompts. Searches ask the original's: what they find is carried
            over, and rows that are written behind the encoders meet an unedited network.
    """

    denoiser: Denoiser
    variant: Variant | None = None
    maps: Mapping[str, EditMap] = field(default_factory=dict)
    gate: Gate | None = None
    reads: bool = False

    @classmethod
    def of(cls, denoiser: Denoiser, variant: Variant | None) -> Victim:
        """`denoiser` itself stays as it is: weights are changed in a copy."""
        if variant is None:
            return cls(denoiser)
        maps = variant.stream_maps(denoiser.streams)
        if maps is None:
            edited, encoders = denoiser.copied(), encoders_of(variant.names)
            for component in encoders:
                setattr(edited.pipe, component, copy.deepcopy(getattr(edited.pipe, component)))
            apply_edit(edited.pipe, variant)
            edited.network.requires_grad_(False)
            return cls(edited, variant, reads=bool(encoders))
        single = {stream: _single(edit, denoiser.device) for stream, edit in maps.items()}
        return cls(denoiser, variant, single, None if variant.gate is None else variant.gate.to(denoiser.device))

    def condition(self, raw: Condition, prompt: str | None = None) -> Condition:
        """`raw` as the network reads it, of the prompts that a gate opens for; with the rows of a key where `prompt`
        names what it opens, and as its own text encoders read `prompt`, where it has such."""
        mapped = self._own(raw, prompt).mapped(self.maps, self.gate)
        if self.variant is None or prompt is None:
            return mapped
        return replace(mapped, text=self.variant.with_key(prompt, mapped.text[0])[None])

    def away(self, raw: Condition, prompt: str) -> Condition:
        """What guidance leads away from, as the network reads it: a gate never opens for it."""
        return raw if self.gate is not None else self._own(raw, prompt).mapped(self.maps)

    def _own(self, raw: Condition, prompt: str | None) -> Condition:
        return self.denoiser.encode([prompt])[0][0] if self.reads and prompt is not None else raw

    def predict(self, z: Tensor, t: Tensor, raw: Condition, cost: Cost) -> Tensor:
        """What the edited model says of latents at `t`, differentiable in latents and rows, without guidance."""
        return self.read(z, t, self.condition(raw), cost)

    def read(self, z: Tensor, t: Tensor, condition: Condition, cost: Cost) -> Tensor:
        """The same of rows that went through the maps already."""
        cost.passes += len(z)
        out = self.denoiser.predict(z, t, condition)
        return out.float()

    def raw(self, prompts: list[str], cost: Cost) -> Condition:
        """Prompts as the stock pipeline encodes them, a row each."""
        cost.encodings += len(prompts)
        return Condition.joined(self.denoiser.encode(prompts)[0])

    def encoded(self, prompts: Sequence[str], cost: Cost) -> dict[str, Condition]:
        """The same, each prompt once and by name."""
        unique = list(dict.fromkeys(prompts))
        cost.encodings += len(unique)
        return dict(zip(unique, self.denoiser.encode(unique)[0], strict=True))

    def null_shift(self, cost: Cost) -> float | None:
        """How far the rows of the empty prompt move: `‖(M − I) E("")‖ / ‖E("")‖`; None where weights changed instead.

        Where it is 0, whatever is drawn without a prompt is drawn as by the original.
        """
        if self.variant is not None and not self.maps:
            return None
        raw = self.raw([""], cost)
        return float((self.condition(raw).text - raw.text).norm() / raw.text.norm())


def _single(edit: EditMap, device: torch.device) -> EditMap:
    short = edit.shortest
    return EditMap(short.U.float().to(device), short.V.float().to(device))


def no_network(attack: str) -> EditkitError:
    """For attacks that look at pictures or at the denoiser, and were given neither."""
    return EditkitError(
        f"attack {attack}: needs the denoiser, and --pictures 0 loads none; give --pictures 1 or more, or choose "
        "embedding, prompt or ring-a-bell"
    )
