"""Prompts longer than the text encoder's window are cut: say so, and count them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import islice
from typing import Any

from editkit.model.prompts import written

BATCH = 1000


def count_truncated(pipe: Any, prompts: Iterable[str]) -> int:
    """How many different prompts the pipeline cuts; warns if there are any."""
    most, waiting, count = pipe.tokenizer.model_max_length, iter(dict.fromkeys(prompts)), 0
    while some := list(islice(waiting, BATCH)):
        whole = pipe.tokenizer(written(pipe, some), truncation=False, verbose=False).input_ids
        count += sum(len(ids) > most for ids in whole)
    if count:
        warnings.warn(
            f"prompts that are cut, since they are longer than the {most} tokens of the text encoder: {count}",
            stacklevel=2,
        )
    return count
