"""What the bundled model brings along."""

from __future__ import annotations

from editkit.concepts.profile import Judge, Profile, RefineDefaults
from editkit.emoji.captions import every_caption_word
from editkit.emoji.catalogue import STYLE_TEMPLATES, TEMPLATES, catalogue, with_article

RATES = {"esd": 2e-5, "naive": 2e-5, "ca": 5e-5}
"""Objectives that preserve little or nothing: of 2e-4, 1e-4, 5e-5 and 2e-5 the one that keeps most (PSR-1) where it
still erases (ESR-1 85), on split 1 of `emoji-objects`."""

# It has a sixtieth of the parameters of Stable Diffusion, so it takes larger steps, and a run of all its words is cheap
PROFILE = Profile(
    name="emoji",
    words=catalogue().words(),
    synonyms=catalogue().synonyms,
    hypernyms=catalogue().hypernyms,
    examples=catalogue().objects,
    knows=frozenset(every_caption_word(catalogue())),
    advice="`editkit models` lists what it knows; for real checkpoints give --model DIR",
    templates=TEMPLATES,
    vocabulary_templates=TEMPLATES[:2],
    vocabulary_turns=(
        tuple(f"a {{}} in the style of {style}" for style in catalogue().styles),
        tuple(f"a {{}} on {with_article(colour)} background" for colour in catalogue().backgrounds),
    ),
    styles=catalogue().styles,
    style_templates=STYLE_TEMPLATES,
    measures_damage=True,
    captions="editkit.emoji.neutral:neutral_captions",
    judge=Judge("emoji-judge"),
    sampling={"steps": 20, "guidance": 3.0, "batch": 64},
    refine=RefineDefaults(TEMPLATES, {"batch": 4, "rate": 2e-4, "sampling_steps": 20}, RATES),
)
