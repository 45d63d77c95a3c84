"""The embedding that brings a concept back, in closed form: the attack that RECE defends against."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from editkit.edits.edit import Edit
from editkit.edits.edit_map import EditMap
from editkit.edits.gram import norm
from editkit.edits.rece import derive
from editkit.erasure.rows import concept_rows
from editkit.errors import EditkitError
from editkit.model.editable import EditableModel
from editkit.options import Checked, option
from editkit.redteam.attack import Finding


@dataclass(frozen=True)
class Embedding(Checked):
    """Feed the regularised embeddings that make the edited model answer as the original does to the concept."""

    changes: ClassVar[str] = "rows"
    source: ClassVar[str] = "Gong et al. 2024, Eq. 7 and 8"

    attack_reg: float = option(1e-3, "λ_r of the derived embeddings, in shares of the mean of G's diagonal.", above=0)

    def attack(self, model: EditableModel, edit: Edit, concept: str) -> Finding:
        """Try to bring `concept` back in `model` under `edit`: the token rows of "a X" and the like.

        Args:
            model: the model.
            edit: what it is edited with.
            concept: a word or phrase.

        Raises:
            EditkitError: the edit has no one map of the token rows.
        """
        start, stream = time.perf_counter(), model.streams[0]
        M = edit.maps.get(model.key(stream))
        if M is None:
            raise EditkitError("attack embedding: the edit has a map for every layer; it is for edits of one map")
        templates = model.profile.templates
        C = concept_rows(stream.encoders, concept, " ", templates, "tail").source.double()
        gram = stream.gram
        reg = self.attack_reg * float(gram.diagonal().mean())

        def missed(under: EditMap, rows: Tensor) -> float:
            return norm(under.embeddings(rows) - C, gram) / norm(C, gram)

        unedited = EditMap.identity(stream.width)
        return Finding(
            "embedding",
            concept,
            self.changes,
            "adaptive",
            missed(M, derive(M, gram, C, reg)),
            missed(unedited, derive(unedited, gram, C, reg)),
            missed(M, C),
            {"encodings": len(templates), "passes": 0, "seconds": round(time.perf_counter() - start, 4)},
        )
