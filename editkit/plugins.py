"""What can be plugged in: components by group and name, editkit's own and those of other packages.

A group is one kind of thing: methods, objectives, searches, attacks, detectors, metrics, formats, families,
pipelines, guards, stages. A component is named by one line here, or by an entry point of the group
`editkit.<group>` in another package; both say `module:attribute`. Nothing is imported before it is asked for.

>>> "rece" in names("methods")
True
>>> load("methods", "rec")
Traceback (most recent call last):
    ...
editkit.errors.EditkitError: method 'rec': did you mean rece? known are cure, dp, oce, rece, speed, time, uce
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

from editkit.errors import EditkitError, did_you_mean
from editkit.options import Option, options_of


@dataclass(frozen=True)
class Group:
    """One kind of component.

    Attributes:
        singular: what one of them is called in an error.
        about: what they do.
        own: name → `module:attribute`; or, for components that share a page, `module:attribute` of the mapping that
            holds them.
        default: the name of the one that is taken where the user names none.
        flags: whether commands have a flag for every option.
    """

    singular: str
    about: str
    own: Mapping[str, str] | str
    default: str = ""
    flags: bool = True


GROUPS: Mapping[str, Group] = {
    "methods": Group(
        "method",
        "closed-form edits, for `erase` and `edit`",
        {
            "cure": "editkit.edits.cure:CURE",
            "dp": "editkit.edits.dp:DP",
            "oce": "editkit.edits.oce:OCE",
            "rece": "editkit.edits.rece:RECE",
            "speed": "editkit.edits.speed:SPEED",
            "time": "editkit.edits.time:TIME",
            "uce": "editkit.edits.uce:UCE",
        },
        default="rece",
    ),
    "objectives": Group(
        "objective",
        "what `refine`, `hide` and `recover` train towards",
        "editkit.tuning.objectives:OBJECTIVES",
        default="ap",
    ),
    "searches": Group(
        "search",
        "how `refine` looks for the concept that suffers most",
        {
            "closed-form": "editkit.tuning.search.closed_form:ClosedForm",
            "exact": "editkit.tuning.search.exact:Exact",
            "gumbel": "editkit.tuning.search.gumbel:Gumbel",
            "learned": "editkit.tuning.search.learned:Learned",
            "noise": "editkit.tuning.search.noise:Noise",
        },
        default="gumbel",
    ),
    "attacks": Group(
        "attack",
        "what tries to bring an erased concept back, for `attack`",
        {
            "cce": "editkit.redteam.cce:CCE",
            "cce-rows": "editkit.redteam.cce:CCERows",
            "completion": "editkit.redteam.completion:Completion",
            "embedding": "editkit.redteam.embedding:Embedding",
            "noise-probe": "editkit.redteam.noise_probe:NoiseProbe",
            "p4d": "editkit.redteam.p4d:P4D",
            "p4d-prefix": "editkit.redteam.p4d:P4DPrefix",
            "prompt": "editkit.redteam.prompt:PromptSearch",
            "random": "editkit.redteam.seed_search:Random",
            "ring-a-bell": "editkit.redteam.ring_a_bell:RingABell",
            "ring-a-bell-embed": "editkit.redteam.ring_a_bell:RingABellEmbed",
            "seed-search": "editkit.redteam.seed_search:SeedSearch",
            "tina": "editkit.redteam.tina:Tina",
            "unlearndiff": "editkit.redteam.unlearndiff:UnlearnDiff",
        },
        default="prompt",
    ),
    "detectors": Group(
        "detector",
        "who looks at pictures, for `evaluate --detector`, suites and profiles",
        {
            "clip-zero-shot": "editkit.evaluation.detectors.clip_zero_shot:ClipZeroShot",
            "emoji-judge": "editkit.emoji.judge:EmojiJudge",
            "imagenet-lite": "editkit.evaluation.detectors.imagenet_lite:ImagenetLite",
            "nudenet": "editkit.evaluation.detectors.nudenet:NudeNet",
            "opennsfw": "editkit.evaluation.detectors.opennsfw:OpenNsfw",
            "resnet50": "editkit.evaluation.detectors.resnet50:ResNet50",
        },
        flags=False,
    ),
    "metrics": Group(
        "metric",
        "what `evaluate --metric` and suites count",
        {
            "clip-score": "editkit.evaluation.metrics.alignment:Alignment",
            "deviation": "editkit.evaluation.metrics.debias:Deviation",
            "efficacy": "editkit.evaluation.metrics.nearness:Efficacy",
            "esr": "editkit.evaluation.metrics.success:ESR",
            "fid": "editkit.evaluation.metrics.frechet:FID",
            "generality": "editkit.evaluation.metrics.nearness:Generality",
            "lpips": "editkit.evaluation.metrics.change:LPIPS",
            "ner": "editkit.evaluation.metrics.exposure:NER",
            "psr": "editkit.evaluation.metrics.success:PSR",
            "sensitivity": "editkit.evaluation.metrics.sensitivity:Sensitivity",
            "share": "editkit.evaluation.metrics.debias:Share",
            "specificity": "editkit.evaluation.metrics.nearness:Specificity",
            "subject": "editkit.evaluation.metrics.success:Subject",
        },
        flags=False,
    ),
    "pipelines": Group(
        "kind of pipeline",
        "which families are drawn, refined and inspected",
        {
            "sd": "editkit.drawing.pipelines.sd:StableDiffusion",
            "sdxl": "editkit.drawing.pipelines.sdxl:StableDiffusionXL",
            "sd3": "editkit.drawing.pipelines.sd3:StableDiffusion3",
            "flux": "editkit.drawing.pipelines.flux:Flux",
            "chroma": "editkit.drawing.pipelines.flux:Chroma",
            "flux2": "editkit.drawing.pipelines.flux2:Flux2Klein",
            "auraflow": "editkit.drawing.pipelines.auraflow:AuraFlow",
            "pixart": "editkit.drawing.pipelines.pixart:PixArt",
            "sana": "editkit.drawing.pipelines.pixart:Sana",
            "lumina2": "editkit.drawing.pipelines.lumina2:Lumina2",
            "cogview4": "editkit.drawing.pipelines.cogview4:CogView4",
            "qwenimage": "editkit.drawing.pipelines.qwenimage:QwenImage",
        },
        flags=False,
    ),
    "formats": Group(
        "format",
        "files that other programs load, for `export`",
        {
            "diffusers": "editkit.model.formats.diffusers_folder:DiffusersFolder",
            "kohya": "editkit.model.formats.kohya:Kohya",
            "kv": "editkit.model.formats.kv:KV",
            "lora": "editkit.model.formats.lora:LoRA",
            "single-file": "editkit.model.formats.single_file:SingleFile",
            "text-encoder": "editkit.model.formats.text_encoder:TextEncoderFile",
        },
        default="kv",
    ),
    "guards": Group(
        "guard",
        "guidance away from concepts while a picture is drawn, for `--guard`",
        {"negative": "editkit.edits.guards:Negative", "sld": "editkit.edits.guards:SLD"},
        flags=False,
    ),
    "stages": Group(
        "kind of stage",
        "what a stage of a recipe can do, for `run`",
        "editkit.chaining.kinds:KINDS",
        flags=False,
    ),
    "families": Group(
        "family",
        "where the prompt enters a model",
        "editkit.model.families.table:BY_NAME",
        flags=False,
    ),
}


NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Component:
    """What a listing says of a component.

    Attributes:
        origin: the package that it comes from.
        source: the paper and its equations, where there is one.
        usage: how it is typed, where its options are part of the name: `esr-K`.
    """

    group: str
    name: str
    usage: str
    summary: str
    source: str
    origin: str
    options: tuple[Option, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "options": [known.as_dict() for known in self.options]}


def names(group: str) -> list[str]:
    """Every name that `load` takes."""
    return sorted({*_own(group), *_foreign(group)})


def load(group: str, name: str) -> Any:
    """The component: a class or function to be called with its options, or an object.

    Raises:
        EditkitError: no component has that name, two have, or its package cannot be imported.
    """
    return _loaded(group, name, _own(group), _foreign(group))


def _loaded(group: str, name: str, own: Mapping[str, Any], points: Mapping[str, list[EntryPoint]]) -> Any:
    singular, foreign = GROUPS[group].singular, points.get(name, [])
    if name in own:
        if foreign:
            raise EditkitError(
                f"{singular} {name!r}: {foreign[0].value} takes the name of one that editkit has; rename it"
            )
        return attribute(own[name]) if isinstance(own[name], str) else own[name]
    if not foreign:
        hint = did_you_mean(name, names(group))
        raise EditkitError(f"{singular} {name!r}: {hint}known are {', '.join(names(group))}")
    if len(foreign) > 1:
        raise EditkitError(f"{singular} {name!r}: more than one package has it: {', '.join(p.value for p in foreign)}")
    try:
        return foreign[0].load()
    except (ImportError, AttributeError) as error:
        raise EditkitError(f"{singular} {name!r}: {foreign[0].value} cannot be imported: {error}") from error


def loadable(group: str) -> dict[str, Any]:
    """Every component of a group that can be imported, by name: what cannot says so when it is asked for."""
    return _importable(group, names(group))


def loadable_foreign(group: str) -> dict[str, Any]:
    """Those of them that other packages bring: asking for a listing of these imports none of editkit's own."""
    return _importable(group, [name for name in sorted(_foreign(group)) if name not in _own(group)])


def _importable(group: str, wanted: Iterable[str]) -> dict[str, Any]:
    own, foreign = _own(group), _foreign(group)
    known: dict[str, Any] = {}
    for name in wanted:
        try:
            known[name] = _loaded(group, name, own, foreign)
        except EditkitError:
            continue
    return known


def make(group: str, name: str, **given: Any) -> Any:
    """The component called with the options that are given.

    Raises:
        EditkitError: as `load`, or an option is unknown or cannot have its value.
    """
    kind = load(group, name)
    try:
        inspect.signature(kind).bind(**given)
    except TypeError as error:
        known = ", ".join(inspect.signature(kind).parameters) or "none"
        raise EditkitError(f"{GROUPS[group].singular} {name!r}: {error}; its options: {known}") from error
    return kind(**given)


def describe(group: str) -> list[Component]:
    """Every component of a group, for a listing. Imports them; one that cannot be imported says why."""
    return [_described(group, name) for name in names(group)]


def _described(group: str, name: str) -> Component:
    origin = "editkit" if name in _own(group) else ", ".join(_package(point) for point in _foreign(group)[name])
    try:
        component = load(group, name)
    except (EditkitError, ImportError) as error:
        return Component(group, name, name, f"cannot be loaded: {error}", "", origin, ())
    text = getattr(component, "summary", None) or inspect.getdoc(component) or ""
    summary = " ".join(text.split("\n\n")[0].split())
    usage = component.usage() if hasattr(component, "usage") else name
    return Component(group, name, usage, summary, getattr(component, "source", ""), origin, _options(component))


def _options(component: Any) -> tuple[Option, ...]:
    """Of a component class its fields, of a function its parameters, of an object what it says itself."""
    if isinstance(component, type) and options_of(component):
        return options_of(component)
    if not (isinstance(component, type) or inspect.isroutine(component)):
        own = getattr(component, "options", ())
        return own if isinstance(own, tuple) else ()
    return tuple(_parameter(each) for each in inspect.signature(component).parameters.values() if each.kind in NAMED)


def _parameter(each: inspect.Parameter) -> Option:
    """What a signature says of a parameter."""
    must = each.default is each.empty
    kind = "" if each.annotation is each.empty else each.annotation
    return Option(
        each.name, kind, each.default is None, None if must else each.default, {}, "", (), None, None, True, must
    )


def _own(group: str) -> Mapping[str, Any]:
    own = GROUPS[group].own
    return attribute(own) if isinstance(own, str) else own


def attribute(where: str) -> Any:
    """What `module:attribute` names."""
    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)


def _foreign(group: str) -> dict[str, list[EntryPoint]]:
    """Entry points by name; a package that is found twice on the path counts once."""
    known: dict[str, list[EntryPoint]] = {}
    for point in _installed(group, tuple(sys.path)):
        if point not in (same := known.setdefault(point.name, [])):
            same.append(point)
    return known


@lru_cache(maxsize=64)
def _installed(group: str, paths: tuple[str, ...]) -> EntryPoints:
    """Of all packages on the path: they are read from the disk in 10 ms, and asked for a thousand times in a run."""
    return entry_points(group=f"editkit.{group}")


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value.partition(":")[0]
