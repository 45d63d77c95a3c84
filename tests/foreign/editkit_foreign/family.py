"""A model family: Stable Diffusion 1.x under a pipeline that diffusers does not have."""

from __future__ import annotations

from dataclasses import replace

from editkit.model.families.table import by_name

NEGATIVE = replace(
    by_name("sd1"), name="negative", title="Negative Diffusion", pipelines=("NegativePipeline",), encoders="sd1"
)
