# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Erase in seconds
#
# Remove a concept from the bundled model, look at it beside the original, sweep an option, and plot what erasing costs.
# Everything runs offline on a CPU; with a checkpoint of your own, give its folder in place of `"emoji"`.

# %%
import json
import os
import tempfile
import warnings
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = os.environ["DIFFUSERS_VERBOSITY"] = "error"
warnings.simplefilter("ignore")

import matplotlib.pyplot as plt
from IPython.display import display

import editkit
from editkit.drawing.generate import compare_grid
from editkit.report.sweep import sweep_report

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Erase
#
# The edit is one small linear map on text embeddings, solved in closed form. It reports what it does without a picture:
# how much of the concept is left, and what every other word loses.

# %%
model = editkit.open_model("emoji")
edit = editkit.erase(model, ["church"])
editkit.save_edit(edit, folder / "church.safetensors")

figures = edit.record["figures"]
for name in ("erasure_residual", "damage_mean", "damage_worst", "rank"):
    print(f"{name:18} {figures[name]:.4g}")
print("most damaged      ", ", ".join(f"{word} {damage:.3f}" for word, damage in figures["worst_words"][:4]))
print("kilobytes         ", (folder / "church.safetensors").stat().st_size // 1024)

# %% [markdown]
# ## Compare
#
# The same noise for both models, a column a seed. Both are drawn in one batch: the map acts on the prompt's embedding.

# %%
prompts = ["a church", "a mosque", "a castle", "a dog"]
compared = ["base", str(folder / "church.safetensors")]
display(compare_grid("emoji", compared, prompts, "0-3", folder / "church.png"))

# %% [markdown]
# ## Sweep
#
# μ weighs the protected vocabulary: with too little of it the others suffer. Each value is an edit of its own; all are
# drawn and judged side by side. `index.html` in the folder is the whole report.

# %%
swept = sweep_report("emoji", ["church"], ["strength=0.01,0.5,50"], folder / "sweep", seeds="0-3")
report = json.loads((folder / "sweep" / "report.json").read_text())
for variant in report["variants"]:
    gone, kept = (variant["shares"][name]["value"] for name in ("esr1", "psr1"))
    print(f"{variant['name']:14} church gone {gone:4.0%}   others kept {kept:4.0%}")

# %% [markdown]
# ## Plot
#
# Erasure against damage: the closed form's own figures, no picture needed.

# %%
edits = [variant for variant in swept.variants if variant.edit is not None]
left = [1 - variant.edit.record["figures"]["erasure_residual"] for variant in edits]
worst = [variant.edit.record["figures"]["damage_worst"] for variant in edits]

figure, axes = plt.subplots(figsize=(6, 4))
axes.plot(worst, left, "o-")
for variant, x, y in zip(edits, worst, left, strict=True):
    axes.annotate(variant.name, (x, y), textcoords="offset points", xytext=(6, -12))
axes.set(xscale="log", xlabel="damage of the worst word", ylabel="share of the concept removed", title="church, RECE")
axes.grid(alpha=0.3)
plt.show()
