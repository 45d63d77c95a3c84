"""editkit: remove, change and balance concepts in text-to-image diffusion models, and measure what that does.

Every command has a function of the same name.

>>> import editkit
>>> edit = editkit.erase("emoji", ["church"])
>>> pipe = editkit.load("emoji")
>>> with editkit.applied(pipe, edit):
...     picture = pipe("a church", num_inference_steps=1).images[0]
>>> picture.size
(64, 64)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editkit.balancing.debias import debias
    from editkit.chaining.recipe import recipes
    from editkit.chaining.run import run
    from editkit.concepts.attributes import Attribute
    from editkit.drawing.generate import generate
    from editkit.drawing.plan import plan_drawing
    from editkit.drawing.recover import recover
    from editkit.edits.edit import Edit
    from editkit.edits.edit_map import EditMap
    from editkit.edits.method import Options
    from editkit.edits.rece import RECE
    from editkit.edits.time import TIME
    from editkit.edits.tuned import Tuned
    from editkit.edits.uce import UCE
    from editkit.emoji.catalogue import models
    from editkit.erasure.edit import edit
    from editkit.erasure.erase import erase
    from editkit.erasure.ledger.entries import LedgerEntry
    from editkit.erasure.ledger.ledger import Ledger
    from editkit.erasure.ledger.open import ledger
    from editkit.erasure.plan import plan_erasing
    from editkit.erasure.presets.preset_file import load_preset, presets
    from editkit.errors import EditkitError
    from editkit.evaluation.evaluate import evaluate
    from editkit.evaluation.moderate import moderate
    from editkit.evaluation.suites.suite import suites
    from editkit.gating.gated import gated
    from editkit.gating.pipeline import gate
    from editkit.inverting.invert import invert
    from editkit.inverting.options import InvertOptions
    from editkit.inverting.round_options import RoundOptions
    from editkit.inverting.stereo import stereo
    from editkit.listings import (
        attacks,
        detectors,
        families,
        formats,
        guards,
        methods,
        metrics,
        objectives,
        pipelines,
        searches,
        stages,
    )
    from editkit.model.apply import applied
    from editkit.model.editable import open_model
    from editkit.model.pipeline import load
    from editkit.publishing.card import card
    from editkit.redteam.attack import attack
    from editkit.redteam.harden import harden
    from editkit.redteam.inspection import inspect
    from editkit.report.command import compare
    from editkit.report.concept_graph import graph
    from editkit.report.sensitivity import sensitivity
    from editkit.tuning.hide import hide
    from editkit.tuning.options import RefineOptions
    from editkit.tuning.refine import refine
    from editkit.variants.compose import compose
    from editkit.variants.edit_file import load_edit, save_edit
    from editkit.variants.export import export
    from editkit.variants.fuse import fuse
    from editkit.variants.fuse_tuned import fuse_tuned
    from editkit.variants.learned_file import load_learned, save_learned
    from editkit.variants.record import info
    from editkit.variants.verify import verify

_HOMES = {
    "Attribute": "editkit.concepts.attributes",
    "Edit": "editkit.edits.edit",
    "EditMap": "editkit.edits.edit_map",
    "EditkitError": "editkit.errors",
    "Ledger": "editkit.erasure.ledger.ledger",
    "LedgerEntry": "editkit.erasure.ledger.entries",
    "Options": "editkit.edits.method",
    "RECE": "editkit.edits.rece",
    "TIME": "editkit.edits.time",
    "InvertOptions": "editkit.inverting.options",
    "RefineOptions": "editkit.tuning.options",
    "RoundOptions": "editkit.inverting.round_options",
    "Tuned": "editkit.edits.tuned",
    "UCE": "editkit.edits.uce",
    "applied": "editkit.model.apply",
    "attack": "editkit.redteam.attack",
    "attacks": "editkit.listings",
    "card": "editkit.publishing.card",
    "compare": "editkit.report.command",
    "compose": "editkit.variants.compose",
    "debias": "editkit.balancing.debias",
    "detectors": "editkit.listings",
    "edit": "editkit.erasure.edit",
    "erase": "editkit.erasure.erase",
    "evaluate": "editkit.evaluation.evaluate",
    "export": "editkit.variants.export",
    "fuse": "editkit.variants.fuse",
    "fuse_tuned": "editkit.variants.fuse_tuned",
    "gate": "editkit.gating.pipeline",
    "gated": "editkit.gating.gated",
    "generate": "editkit.drawing.generate",
    "graph": "editkit.report.concept_graph",
    "info": "editkit.variants.record",
    "inspect": "editkit.redteam.inspection",
    "harden": "editkit.redteam.harden",
    "hide": "editkit.tuning.hide",
    "invert": "editkit.inverting.invert",
    "load_learned": "editkit.variants.learned_file",
    "save_learned": "editkit.variants.learned_file",
    "ledger": "editkit.erasure.ledger.open",
    "load": "editkit.model.pipeline",
    "load_edit": "editkit.variants.edit_file",
    "load_preset": "editkit.erasure.presets.preset_file",
    "methods": "editkit.listings",
    "searches": "editkit.listings",
    "objectives": "editkit.listings",
    "pipelines": "editkit.listings",
    "plan_drawing": "editkit.drawing.plan",
    "plan_erasing": "editkit.erasure.plan",
    "presets": "editkit.erasure.presets.preset_file",
    "formats": "editkit.listings",
    "guards": "editkit.listings",
    "families": "editkit.listings",
    "metrics": "editkit.listings",
    "models": "editkit.emoji.catalogue",
    "moderate": "editkit.evaluation.moderate",
    "open_model": "editkit.model.editable",
    "recover": "editkit.drawing.recover",
    "recipes": "editkit.chaining.recipe",
    "refine": "editkit.tuning.refine",
    "run": "editkit.chaining.run",
    "save_edit": "editkit.variants.edit_file",
    "sensitivity": "editkit.report.sensitivity",
    "stages": "editkit.listings",
    "stereo": "editkit.inverting.stereo",
    "suites": "editkit.evaluation.suites.suite",
    "verify": "editkit.variants.verify",
}
__all__ = [
    "RECE",
    "TIME",
    "UCE",
    "Attribute",
    "Edit",
    "EditMap",
    "EditkitError",
    "InvertOptions",
    "Ledger",
    "LedgerEntry",
    "Options",
    "RefineOptions",
    "RoundOptions",
    "Tuned",
    "applied",
    "attack",
    "attacks",
    "card",
    "compare",
    "compose",
    "debias",
    "detectors",
    "edit",
    "erase",
    "evaluate",
    "export",
    "families",
    "formats",
    "fuse",
    "fuse_tuned",
    "gate",
    "gated",
    "generate",
    "graph",
    "guards",
    "harden",
    "hide",
    "info",
    "inspect",
    "invert",
    "ledger",
    "load",
    "load_edit",
    "load_learned",
    "load_preset",
    "methods",
    "metrics",
    "models",
    "moderate",
    "objectives",
    "open_model",
    "pipelines",
    "plan_drawing",
    "plan_erasing",
    "presets",
    "recipes",
    "recover",
    "refine",
    "run",
    "save_edit",
    "save_learned",
    "searches",
    "sensitivity",
    "stages",
    "stereo",
    "suites",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Nothing heavy is imported before it is used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'editkit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
