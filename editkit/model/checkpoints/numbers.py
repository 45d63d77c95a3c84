"""The one gate through which weights are read: what comes out are plain numbers, or the name of the form they are in.

A quantised checkpoint keeps other numbers under the names of the weights, and what they mean in *companions*, tensors
beside them. float8 is read, plain or scaled by one number a tensor, and written back in the same form. Everything else
is refused: arithmetic on such numbers would give an edit that is wrong without a word.
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from editkit.errors import EditkitError
from editkit.files.header import Header, Slot, read_header
from editkit.model.checkpoints.ldm_names import UNET_PREFIX

PLAIN = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FLOAT8 = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
REMEDY = "edit the unquantised model, and quantise the export"

SCALE, NEW_SCALE, NOTE = ".scale_weight", ".weight_scale", ".comfy_quant"
"""Companions of scaled float8 in ComfyUI's files, `W = stored * scale`: `SCALE` in those with a `scaled_fp8` marker,
`NEW_SCALE` in later ones, whose `NOTE` is JSON that names the format. https://github.com/comfyanonymous/ComfyUI,
`comfy/ops.py` and `QUANTIZATION.md`."""
NOTES = "_quantization_metadata"
"""Metadata that says the same as `NOTE`, of all layers."""
NOTED = ("float8_e4m3fn", "float8_e5m2")

_BLOCKS4 = "bitsandbytes 4 bit (nf4, fp4)"
_COMPANIONS: tuple[tuple[str, str], ...] = (
    (r"(?P<tensor>.+)\.(nested_)?(absmax|quant_map)", _BLOCKS4),
    (r"(?P<tensor>.+)\.quant_state\..+", _BLOCKS4),
    (r"(?P<layer>.+)\.(SCB|weight_format)", "bitsandbytes int8"),
    (r"(?P<layer>.+)\.(qweight|qzeros|g_idx)", "GPTQ, AWQ or SVDQuant"),
    (r"(?P<tensor>.+)\._(data|scale|shift|packed)(\..+)?", "quanto"),
    (r"(?P<layer>.+)\.(_weight_|weight[:_])_?(qdata|data|int_data|tensor_impl.*|zero_point)", "torchao"),
    (r"(?P<layer>.+)\.W_q", "HQQ"),
    (r"(?P<layer>.+)\.weight_(packed|shape)", "compressed-tensors"),
    (r"(?P<layer>.+)\.weight_scale_inv", "float8 with a scale per block"),
    (r"(?P<layer>.+)\.weight_scale_2", "nvfp4"),
)
"""Names of companions by which a layout is known; `tensor` is the weight that they belong to, `layer` its module."""
_KNOWN = tuple((re.compile(pattern), layout) for pattern, layout in _COMPANIONS)
_BESIDE = re.compile(
    r".+\.(scale_weight|scale_input|weight_scale|input_scale|output_scale|comfy_quant)|(.+\.)?scaled_fp8"
)
_BUFFERS = re.compile(r"(.+\.)?position_ids")
"""Whole numbers that are no weights: positions, which old files keep."""


class Weights:
    """A safetensors file whose tensors are read as plain numbers. It is open only while one is read.

    Attributes:
        path: the file.
        header: its layout.
    """

    def __init__(self, path: Path, header: Header, ordered: Sequence[str]) -> None:
        self.path, self.header, self._ordered, self._as_opened = path, header, ordered, _state(path)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The weights, in the order of the file: also those of which only quantised parts are there."""
        own = [name for name in self._ordered if not self._is_beside(name)]
        return tuple(dict.fromkeys([*own, *self._quantised]))

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: slot.shape for name, slot in self.header.tensors.items()}

    def read(self, name: str) -> Tensor:
        """The numbers of a weight: in its own dtype if that is plain, else in float32.

        Plain ones are pages of the file itself. No copy is made, and memory that runs short can drop them; they go when
        the tensor does.

        Raises:
            EditkitError: it is quantised; the message names the layout, the tensor and the remedy.
        """
        scale = self._scale(name)
        stored = self._stored(name)
        if self.is_plain(name):
            return stored
        return stored.float() if scale is None else stored.float() * self._factor(scale)

    def is_plain(self, name: str) -> bool:
        """Whether `read` gives a weight as it lies there; as `read`, refuses what is quantised."""
        return self._scale(name) is None and self.header.tensors[name].dtype in PLAIN

    def stored(self, name: str, values: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """`values` in the form in which the file keeps that weight.

        A scale is kept where the values fit under it, and made larger where they do not.

        Returns:
            The tensors to put in the place of the file's own, and the numbers that a reader takes from them: `values`
            themselves where nothing is converted.

        Raises:
            EditkitError: they do not fit plain float8, or `read` would refuse the weight.
        """
        if self.is_plain(name):
            return {name: values}, values
        scale, kept = self._scale(name), self.header.tensors[name].dtype
        dtype = (PLAIN | FLOAT8)[kept]
        largest, most = float(values.abs().max()), torch.finfo(dtype).max
        if scale is None:
            if largest > most:
                raise EditkitError(f"{self.path}: {name} would reach {largest:.4g}, more than {kept} holds; {REMEDY}")
            stored = values.to(dtype)
            return {name: stored}, stored.float()
        factor = self._factor(scale)
        if largest <= float(factor.abs()) * most:
            stored = (values / factor).to(dtype)
            return {name: stored}, stored.float() * factor
        own = self._stored(scale)
        grown = torch.full_like(own, largest / most * (1 + 1e-3))  # the margin: a scale may be rounded to bfloat16
        stored = (values / grown.float()).to(dtype)
        return {name: stored, scale: grown}, stored.float() * grown.float()

    @cached_property
    def _quantised(self) -> dict[str, tuple[str, str]]:
        """Weight → the layout that a companion of it gives away, and that companion."""
        layouts: dict[str, tuple[str, str]] = {}
        for name in self.header.tensors:
            for pattern, layout in _KNOWN:
                if at := pattern.fullmatch(name):
                    groups = at.groupdict()
                    layouts.setdefault(groups.get("tensor") or f"{groups['layer']}.weight", (layout, name))
                    break
        return layouts

    def _is_beside(self, name: str) -> bool:
        return any(pattern.fullmatch(name) for pattern in (_BESIDE, _BUFFERS, *(known for known, _ in _KNOWN)))

    def _scale(self, name: str) -> str | None:
        """The name of a weight's scale, if it has one; refuses what is no plain number, scaled or not."""
        if name in self._quantised:
            layout, companion = self._quantised[name]
            raise self._refused(name, f"{layout}, as {companion} says")
        kept = self.header.tensors[name].dtype
        if kept not in PLAIN and kept not in FLOAT8:
            raise self._refused(name, f"{kept}, no floating-point numbers")
        layer = name.removesuffix(".weight")
        if name == layer:
            return None
        scale = next((layer + end for end in (SCALE, NEW_SCALE) if layer + end in self.header.tensors), None)
        if scale is not None and self.header.tensors[scale].shape not in ((), (1,)):
            raise self._refused(name, f"{kept} with many scales, {scale}")
        if layer + NOTE in self.header.tensors or (scale and scale.endswith(NEW_SCALE)):
            noted = self._noted(layer)
            if scale is None or noted not in NOTED:
                raise self._refused(name, f"{kept}, with a scale of the format {noted or 'that nothing names'}")
        return scale

    def _noted(self, layer: str) -> str | None:
        """The format that a later ComfyUI file gives for a layer."""
        try:
            if layer + NOTE in self.header.tensors:
                note = json.loads(bytes(self._stored(layer + NOTE).tolist()))
            else:
                layers = json.loads(self.header.metadata[NOTES])["layers"]
                note = next(entry for name, entry in layers.items() if layer in (name, UNET_PREFIX + name))
            return str(note["format"])
        except (ValueError, KeyError, TypeError, StopIteration):
            return None

    def _factor(self, scale: str) -> Tensor:
        return self._stored(scale).float().reshape(())

    def _stored(self, name: str) -> Tensor:
        """A tensor as it lies there.

        Raises:
            EditkitError: the file is not the one that was opened any more.
        """
        if _state(self.path) != self._as_opened:
            raise EditkitError(f"{self.path}: changed while it was read; start again")
        slot = self.header.tensors[name]
        if slot.dtype in PLAIN and slot.end > slot.start:
            return _mapped(self.path, slot)
        with safe_open(self.path, framework="pt") as opened:
            return opened.get_tensor(name)

    def _refused(self, name: str, what: str) -> EditkitError:
        return EditkitError(f"{self.path}: {name} is quantised ({what}), expected plain numbers; {REMEDY}")


@contextmanager
def open_weights(path: Path | str) -> Iterator[Weights]:
    """A safetensors file, opened to read single tensors through the gate.

    Raises:
        EditkitError: it is none; the message says what it is instead.
    """
    path = Path(path)
    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as opened:  # it looks the whole header over
            ordered = opened.offset_keys()
        yield Weights(path, header, ordered)
    except (SafetensorError, OSError) as error:
        raise EditkitError(
            f"{path}: expected a safetensors file, but it cannot be read ({error}); take another copy of it"
        ) from error


def _mapped(path: Path, slot: Slot) -> Tensor:
    """The bytes of one tensor, not a whole file of gigabytes; copy-on-write, so what is written to it stays here."""
    start = slot.start - slot.start % mmap.ALLOCATIONGRANULARITY
    with path.open("rb") as file:
        area = mmap.mmap(file.fileno(), slot.end - start, access=mmap.ACCESS_COPY, offset=start)
    dtype = PLAIN[slot.dtype]
    count = (slot.end - slot.start) // dtype.itemsize
    return torch.frombuffer(area, dtype=dtype, count=count, offset=slot.start - start).view(slot.shape)


def _state(path: Path) -> tuple[int, int]:
    """By which a file that was replaced meanwhile is known."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def check_config(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a component whose `config.json` says that it is quantised.

    Raises:
        EditkitError: with the method that it names.
    """
    stated = config.get("quantization_config")
    if not stated:
        return
    method = stated.get("quant_method") if isinstance(stated, dict) else stated
    raise EditkitError(
        f"{path}: its weights are quantised (quantization_config says {method or 'no quant_method'}), "
        f"expected plain numbers; {REMEDY}"
    )
