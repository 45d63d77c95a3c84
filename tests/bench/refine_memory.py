"""The planned memory of refining models of the released size. No weight is there: a plan reads none.

python tests/bench/refine_memory.py [--out tests/bench/refine_memory.json]
"""

from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from editkit.model.checkpoints.source import find
from editkit.tuning.memory import plan_memory
from editkit.tuning.options import RefineOptions
from tests.test_drawing_plan import CONFIGS

SDXL: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel", "sample_size": 128, "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, dict[str, Any]], dict[str, int]]] = {
    "sdxl": (
        "StableDiffusionXLPipeline",
        {"unet": SDXL, "vae": {}, "text_encoder": {}, "text_encoder_2": {"projection_dim": 1280}},
        {"text_encoder": 123_060_480, "text_encoder_2": 694_659_840, "vae": 83_653_863},
    ),
    "flux1": (
        "FluxPipeline",
        CONFIGS,
        {"text_encoder": 123_060_480, "text_encoder_2": 4_762_310_656, "vae": 83_819_683},
    ),
}
"""Pipeline, configurations, and how many numbers the weights are beside the network."""
ADVERSARIAL, SPARE = {"objective": "ap"}, {"gradient_checkpointing": True}
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("sdxl", {**ADVERSARIAL}),
    ("sdxl", {**ADVERSARIAL, **SPARE}),
    *(
        ("flux1", {"objective": objective, "size": f"{side}x{side}", **SPARE, **more})
        for more, sides in (({}, (512, 1024)), ({"storage": "fp8"}, (1024,)))
        for objective in ("esd", "ap")
        for side in sides
    ),
]


def save(name: str, folder: Path) -> Path:
    """Configurations, and weights that are holes in a file: their headers alone are read."""
    pipeline, configs, numbers = MODELS[name]
    for component, config in configs.items():
        (folder / component).mkdir(parents=True)
        (folder / component / "config.json").write_text(json.dumps(config))
        count = numbers.get(component)
        if count is not None:
            header = json.dumps({"weight": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
            with (folder / component / "model.safetensors").open("wb") as file:
                file.write(struct.pack("<Q", len(header)) + header)
                file.truncate(8 + len(header) + count)
    index = {"_class_name": pipeline, **{component: ["", ""] for component in configs}}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def planned(name: str, folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    source = find(folder)
    settings = {"param": "lora:16", "mixed_precision": "bf16", **given}
    plan = plan_memory(source, RefineOptions.of(profile=source.profile, **settings), "cuda")
    parts = {part: round(size / 2**30, 2) for part, size in plan.parts.items()}
    return {
        "model": name, **settings, "gib": round(plan.total / 2**30, 1), "gb": round(plan.total / 1e9, 1),
        "parts": parts, "to encode prompts": round(plan.before / 2**30, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    out, rows = parser.parse_args().out, []
    with TemporaryDirectory() as base:
        folders = {name: save(name, Path(base) / name) for name in MODELS}
        for name, given in ROWS:
            rows.append(planned(name, folders[name], given))
            print(rows[-1], flush=True)
            out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
