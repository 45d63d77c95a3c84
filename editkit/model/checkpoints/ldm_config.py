"""What the diffusers folder of a single-file checkpoint would state: its index and the components' configurations.

A file holds no configuration. Sizes are in the shapes of its header; what no shape shows is what all released models of
the family have in common. What the network predicts is neither: see `Stated.assumed`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from editkit.errors import EditkitError
from editkit.files.header import Header, read_header
from editkit.model.checkpoints.ldm_names import POOLED_LDM, UNET_PREFIX, text_levels
from editkit.model.checkpoints.single_file import ENCODERS, LdmEncoder, used_layers
from editkit.model.checkpoints.single_file import HEAD_WIDTH as ENCODER_HEAD_WIDTH

VAE_PREFIX = "first_stage_model."
UNET_PARTS = ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.")
VAE_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
"""Old files also hold its training loss and moving averages."""

HEADS, HEAD_WIDTH, GROUPS = 8, 64, 32
"""Of the released UNets: SD 1.x has 8 heads everywhere, the others one for 64 channels each; norms have 32 groups."""
SCALING = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
"""What the VAE's latents are multiplied by."""
SCHEDULE = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
"""The noise of every released model of these families."""
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""Of models that were trained from pure noise on: Lin et al. 2023, https://arxiv.org/abs/2305.08891, section 3."""

V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"
"""Tensors that mean something by being there: the convention of ComfyUI, `comfy/supported_models.py`."""
PREDICTION_KEY, RESOLUTION_KEY = "modelspec.prediction_type", "modelspec.resolution"
"""Metadata: https://github.com/Stability-AI/ModelSpec."""
_SAID = {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction", "velocity": "v_prediction"}
_FIRST_LAYER = r"0\.mlp\.(fc1|c_fc)\.weight"


@dataclass(frozen=True)
class Stated:
    """What one file states of itself.

    Attributes:
        path: the file.
        family: its family's name.
        pipeline: the class of diffusers that draws with it.
        prediction: what the user says that the network predicts; None: what the file says, else what is usual.
    """

    path: Path
    family: str
    pipeline: str
    prediction: str | None = None

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Tensor name → shape as it is stored."""
        return {name: slot.shape for name, slot in self._header.tensors.items()}

    @property
    def parts(self) -> tuple[str, ...]:
        """The components with weights that its pipeline has."""
        return ("unet", "vae", *self._encoders)

    @cached_property
    def index(self) -> dict[str, Any]:
        """As `model_index.json` has it; a component that the file lacks is not in it."""
        index: dict[str, Any] = {"_class_name": self.pipeline, "scheduler": ["diffusers", "DDIMScheduler"]}
        if self.held("unet"):
            index["unet"] = ["diffusers", "UNet2DConditionModel"]
        if self.held("vae"):
            index["vae"] = ["diffusers", "AutoencoderKL"]
        for component, encoder in self._encoders.items():
            if self.held(component):
                kind = "CLIPTextModelWithProjection" if encoder.projection else "CLIPTextModel"
                end = component.removeprefix("text_encoder")
                index |= {component: ["transformers", kind], f"tokenizer{end}": ["transformers", "CLIPTokenizer"]}
        return index

    @cached_property
    def configs(self) -> Mapping[str, dict[str, Any]]:
        """Component → its configuration.

        Raises:
            EditkitError: the UNet or the VAE is not of the layout of its family.
        """
        configs = {"scheduler": self._scheduler, "unet": self._unet}
        if self.held("vae"):
            configs["vae"] = self._vae
        for component in self._encoders:
            configs[component] = self._text_encoder(component)
        return configs

    def held(self, component: str) -> dict[str, tuple[int, ...]]:
        """The tensors of a component: name without `prefix` → shape."""
        prefix, starts = self.prefix(component), self.starts(component)
        return {name.removeprefix(prefix): shape for name, shape in self.shapes.items() if name.startswith(starts)}

    def starts(self, component: str) -> tuple[str, ...]:
        """How the names of a component's tensors begin."""
        prefix = self.prefix(component)
        if component == "vae":
            return tuple(prefix + part for part in VAE_PARTS)
        return (prefix,) if prefix else UNET_PARTS

    def prefix(self, component: str) -> str:
        """What stands before the names of a component."""
        if component == "unet":
            return UNET_PREFIX if any(name.startswith(UNET_PREFIX) for name in self.shapes) else ""
        return VAE_PREFIX if component == "vae" else self._encoders[component].prefix

    @property
    def assumed(self) -> str | None:
        """What is taken without anything that says so, in words; None where nothing is. SD 2.x comes as both."""
        if self.family != "sd2" or self._said is not None:
            return None
        return (
            "nothing says what it predicts (SD 2.x models of 512 pixels predict the noise, those of 768 the velocity): "
            'velocity is taken, as diffusers does; where pictures are noise, write `prediction = "epsilon"` into a '
            "file and give it with --profile"
        )

    @property
    def _encoders(self) -> dict[str, LdmEncoder]:
        """Component → how it stands in the file."""
        return dict(zip(("text_encoder", "text_encoder_2"), ENCODERS[self.family], strict=False))

    @cached_property
    def _header(self) -> Header:
        return read_header(self.path)

    @property
    def _said(self) -> str | None:
        """What the network predicts, where the user or the file says so."""
        if self.prediction is not None:
            return self.prediction
        return (
            "v_prediction"
            if V_MARK in self.shapes
            else _SAID.get(self._header.metadata.get(PREDICTION_KEY, "").lower())
        )

    @property
    def _scheduler(self) -> dict[str, Any]:
        usual = "v_prediction" if self.family == "sd2" else "epsilon"
        more = ZERO_SNR if ZERO_SNR_MARK in self.shapes else {}
        return SCHEDULE | {"prediction_type": self._said or usual} | more

    @property
    def _side(self) -> int:
        """Of the pictures that it was trained on, in pixels: what the metadata say if that is square, else as usual."""
        at = re.fullmatch(r"(\d+)x(\d+)", self._header.metadata.get(RESOLUTION_KEY, "").strip().lower())
        whole = self._factor * 2 ** (self._levels - 1)
        if at is not None and at[1] == at[2] and int(at[1]) and int(at[1]) % whole == 0:
            return int(at[1])
        if self.family == "sd2":
            return 768 if self._scheduler["prediction_type"] == "v_prediction" else 512
        return 1024 if self.family == "sdxl" else 512

    @cached_property
    def _factor(self) -> int:
        """Pixels a side of a latent."""
        levels = [re.match(r"encoder\.down\.(\d+)\.", name) for name in self.held("vae")]
        return 2 ** max((int(at[1]) for at in levels if at), default=3)

    @property
    def _levels(self) -> int:
        return 3 if self.family == "sdxl" else 4

    @property
    def _unet(self) -> dict[str, Any]:
        down, up = text_levels(self.family)
        levels, unet = self._levels, self.held("unet")

        def shape(name: str) -> tuple[int, ...]:
            return self._shape("unet", unet, name)

        channels = tuple(shape(f"input_blocks.{1 + 3 * n}.0.out_layers.3.weight")[0] for n in range(levels))
        depths = tuple(_count(unet, rf"input_blocks\.{1 + 3 * n}\.1\.transformer_blocks\.") or 1 for n in range(levels))
        config: dict[str, Any] = {
            "sample_size": self._side // self._factor,
            "in_channels": shape("input_blocks.0.0.weight")[1],
            "out_channels": shape("out.2.weight")[0],
            "down_block_types": tuple("CrossAttnDownBlock2D" if n in down else "DownBlock2D" for n in range(levels)),
            "up_block_types": tuple("CrossAttnUpBlock2D" if n in up else "UpBlock2D" for n in range(levels)),
            "block_out_channels": channels,
            "layers_per_block": 2,
            "transformer_layers_per_block": depths,
            "cross_attention_dim": shape("middle_block.1.transformer_blocks.0.attn2.to_k.weight")[-1],
            # the name is a mistake of diffusers: it counts heads
            "attention_head_dim": HEADS if self.family == "sd1" else tuple(max(1, n // HEAD_WIDTH) for n in channels),
            "norm_num_groups": math.gcd(GROUPS, *channels),
            "use_linear_projection": len(shape("middle_block.1.proj_in.weight")) == 2,
            "upcast_attention": self.family == "sd2",
        }
        guided = next((of for name, of in unet.items() if name.endswith("cond_proj.weight")), None)
        if guided is not None:
            config["time_cond_proj_dim"] = guided[1]
        return config | (self._added(shape(POOLED_LDM)[1]) if self.family == "sdxl" else {})

    def _added(self, width: int) -> dict[str, Any]:
        """Of SDXL's second input: the pooled vector and six numbers, `width` together."""
        projection = self.held("text_encoder_2").get("text_projection", (1280, 1280))
        return {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (width - projection[1]) // 6,
            "projection_class_embeddings_input_dim": width,
        }

    @property
    def _vae(self) -> dict[str, Any]:
        vae = self.held("vae")
        levels = 1 + int(math.log2(self._factor))
        channels = tuple(self._shape("vae", vae, f"encoder.down.{n}.block.0.conv2.weight")[0] for n in range(levels))
        return {
            "sample_size": self._side,
            "latent_channels": self._shape("vae", vae, "post_quant_conv.weight")[0],
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": channels,
            "layers_per_block": _count(vae, r"encoder\.down\.0\.block\."),
            "norm_num_groups": math.gcd(GROUPS, *channels),
            "scaling_factor": SCALING[self.family],
        }

    def _text_encoder(self, component: str) -> dict[str, Any]:
        """With what `read_text_encoders` takes for given; empty where the encoder was pruned."""
        held, encoder = self.held(component), self._encoders[component]
        ends = (r"token_embedding\.weight", r"(position_embedding\.weight|positional_embedding)", _FIRST_LAYER)
        found: list[Any] = [
            next((shape for name, shape in held.items() if re.fullmatch(rf"(.*\.)?{end}", name)), ()) for end in ends
        ]
        if not all(found):
            return {}
        (vocabulary, width), (positions, _), (inner, _) = found
        projected = held.get("text_projection", (width, width))[1]
        return {
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": inner,
            "num_hidden_layers": used_layers(_count(held, r".*(?:layers|resblocks)\."), encoder.penultimate),
            "num_attention_heads": max(1, width // ENCODER_HEAD_WIDTH),
            "max_position_embeddings": positions,
            "hidden_act": "gelu" if encoder.open_clip else "quick_gelu",
            "layer_norm_eps": 1e-5,
            "projection_dim": projected if encoder.projection else width,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
        }

    def _shape(self, component: str, held: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
        if name not in held:
            raise EditkitError(
                f"{self.path}: expected {self.prefix(component)}{name} in its {component}, found none; only "
                "the layouts of SD 1.x, SD 2.x and SDXL are drawn from a single file; give a diffusers folder of it"
            )
        return held[name]


def _count(names: Mapping[str, Any], start: str) -> int:
    """How many numbers follow `start` among the names."""
    return len({at[1] for name in names if (at := re.match(rf"{start}(\d+)\.", name))})
