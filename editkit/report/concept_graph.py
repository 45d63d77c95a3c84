"""`editkit graph`: erase each concept of a list in turn, and see what that does to every other (AP Fig. 1)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from editkit.concepts.profile import ProfileOrFile
from editkit.drawing.files import Shard
from editkit.drawing.pipelines import open_denoiser
from editkit.drawing.prompt_file import parse_seeds
from editkit.drawing.refusals import check_drawing
from editkit.drawing.sampling import Sampling, Settings
from editkit.edits.edit import Edit
from editkit.edits.method import Method, Options
from editkit.erasure.erase import erase
from editkit.errors import EditkitError
from editkit.evaluation.scores import score_for
from editkit.evaluation.sensitivity import measured_deltas, word_damage
from editkit.evaluation.statistics.rank_correlation import FEWEST, RankCorrelation, spearman
from editkit.files.atomic_folder import check_free_folder, write_folder_atomic
from editkit.model.editable import EditableModel, ModelLike, open_model
from editkit.progress import progress
from editkit.report.charts.matrix import matrix_chart
from editkit.report.charts.network import network_chart, strongest
from editkit.report.charts.scale import shown
from editkit.report.charts.svg import Markup
from editkit.report.compare import Path_
from editkit.report.plot_file import ENDINGS, check_plot, write_plot
from editkit.versions import RESULTS, versions

MARK = "graph.json"
Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ConceptGraph:
    """`damage[i][j]`: what erasing concept `i` does to concept `j`, in closed form; `deltas` the same on pictures.

    Attributes:
        correlation: of the two, over all pairs of different concepts.
    """

    concepts: tuple[str, ...]
    options: Method
    damage: Matrix
    seconds: float
    profile: Mapping[str, str]
    deltas: Matrix | None = None
    score: str | None = None
    seeds: tuple[int, ...] = ()
    correlation: RankCorrelation | None = None

    @property
    def shown(self) -> Matrix:
        """What is drawn: the measured matrix where there is one."""
        return self.damage if self.deltas is None else self.deltas

    def as_dict(self) -> dict[str, Any]:
        """The numbers, for machines."""
        return {
            "concepts": list(self.concepts),
            "options": asdict(self.options),
            "profile": dict(self.profile),
            "damage": [list(row) for row in self.damage],
            "deltas": None if self.deltas is None else [list(row) for row in self.deltas],
            "score": self.score,
            "seeds": list(self.seeds),
            "seconds": self.seconds,
            "spearman": None if self.correlation is None else self.correlation.as_dict(),
            "edges": [
                {"erased": self.concepts[i], "suffers": self.concepts[j], "by": value}
                for i, j, value in strongest(self.shown)
            ],
            "versions": versions(RESULTS),
        }


def concept_graph(
    model: EditableModel,
    concepts: Sequence[str],
    options: Method | None = None,
    pictures: bool = False,
    seeds: Sequence[int] = (0, 1, 2, 3),
    device: str | None = None,
    clip: Path | None = None,
    **settings: Unpack[Settings],
) -> ConceptGraph:
    """Erase each of `concepts` alone and measure what that does to all of them.

    Args:
        options: default: UCE with the prior. What still suffers where every word is held alike is near; without
            protection nearly everything suffers, and minimax evens out what is left.

    Raises:
        EditkitError: fewer than two concepts, or an edit that would break the checkpoint.
    """
    concepts = list(dict.fromkeys(concept.strip() for concept in concepts))
    if len(concepts) < 2:
        raise EditkitError(f"a concept graph needs at least two different concepts, got {len(concepts)}; name more")
    options = options or Options("uce", protect="prior")
    start = time.perf_counter()
    edits = [
        erase(model, [concept], options=options) for concept in progress(concepts, len(concepts), "making the edits")
    ]
    damage = tuple(harm.values for harm in word_damage(model, edits, concepts))
    seconds = time.perf_counter() - start
    graph = ConceptGraph(tuple(concepts), options, damage, seconds, model.profile.record)
    return _measured(model, edits, graph, seeds, device, clip, settings) if pictures else graph


def graph(
    model: ModelLike,
    concepts: Sequence[str],
    out: Path_ | None = None,
    options: Method | None = None,
    pictures: bool = False,
    seeds: str = "0-3",
    device: str | None = None,
    clip: Path | None = None,
    force: bool = False,
    png: bool = False,
    profile: ProfileOrFile | None = None,
    **settings: Unpack[Settings],
) -> ConceptGraph:
    """Erase each concept of a list in turn, and measure what that does to all the others.

    Args:
        model: as `open_model` takes it, or what it returns.
        concepts: at least two.
        out: folder for `matrix.svg`, `graph.svg` and `graph.json`, or None.
        options: how each is erased; default: UCE with the prior, which shows best who is near whom.
        pictures: also measure δ on pictures.
        seeds: of these pictures.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        clip: folder of a CLIP model, to score the pictures by.
        force: replace what is at `out`.
        png: also write `matrix.png` and `graph.png`.
        profile: what the model brings along, or a file that says it.
        settings: of `editkit.drawing.sampling.Settings`.

    Raises:
        EditkitError: fewer than two concepts, an edit that would break the checkpoint, or `out` is there already.

    >>> graph("emoji", ["church", "dog"]).concepts
    ('church', 'dog')
    """
    folder, endings = None if out is None else Path(out), ENDINGS if png else ENDINGS[:1]
    if folder is not None:
        check_free_folder(folder, force, MARK)
        for ending in endings:
            check_plot(folder / f"graph{ending}", force=True)
    opened, numbers = open_model(model, profile=profile), parse_seeds(seeds)
    made = concept_graph(opened, concepts, options, pictures, numbers, device, clip, **settings)

    def fill(inside: Path) -> None:
        text = json.dumps(made.as_dict(), indent=1, ensure_ascii=False) + "\n"
        (inside / MARK).write_text(text, encoding="utf-8")
        for name, drawn in (("matrix", matrix_plot(made)), ("graph", graph_plot(made))):
            for ending in endings:
                write_plot(inside / f"{name}{ending}", drawn)

    if folder is not None:
        write_folder_atomic(folder, fill, force, MARK)
    return made


def matrix_plot(graph: ConceptGraph) -> Markup:
    """The δ matrix."""
    return matrix_chart(graph.concepts, graph.shown, f"What erasing each of {_said(graph)}")


def graph_plot(graph: ConceptGraph) -> Markup:
    """The concept graph."""
    return network_chart(graph.concepts, graph.shown, f"Who suffers most when one is erased of {_said(graph)}")


def _said(graph: ConceptGraph) -> str:
    what = "closed-form damage" if graph.deltas is None else f"δ by {graph.score}"
    worst = ", ".join(
        f"{graph.concepts[i]} costs {graph.concepts[j]} {shown(value)}"
        for i, j, value in sorted(strongest(graph.shown), key=lambda edge: -edge[2])[:5]
    )
    return f"{len(graph.concepts)} concepts does to the others, {what}. Most: {worst}"


def _measured(
    model: EditableModel,
    edits: Sequence[Edit],
    graph: ConceptGraph,
    seeds: Sequence[int],
    device: str | None,
    clip: Path | None,
    settings: Any,
) -> ConceptGraph:
    """All edits share the batches with the unedited model, so that is drawn once."""
    score = score_for(model.source, clip)
    unknown = [concept for concept in graph.concepts if not score.knows(concept)]
    if unknown:
        raise EditkitError(f"{score.name} does not know {unknown[0]!r}; leave it out, or leave out --pictures")
    sampling = Sampling.for_model(model.source, **settings)
    check_drawing(model.source, sampling)
    denoiser = open_denoiser(model.source, device or Shard.from_environment().device(), sampling.placement)
    deltas = measured_deltas(denoiser, score, edits, graph.concepts, seeds, sampling)
    matrix = tuple(tuple(delta.estimate.value for delta in row) for row in deltas)
    n = len(graph.concepts)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    correlation = None
    if len(pairs) >= FEWEST:
        correlation = spearman([graph.damage[i][j] for i, j in pairs], [matrix[i][j] for i, j in pairs])
    return replace(graph, deltas=matrix, score=score.name, seeds=tuple(seeds), correlation=correlation)
