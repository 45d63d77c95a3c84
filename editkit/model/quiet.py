"""Keep the libraries' own progress bars out of ours while a model is read: it takes a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    both = (diffusers_logging, transformers_logging)
    for one in both:
        one.disable_progress_bar()
    try:
        yield
    finally:
        for one in both:
            one.enable_progress_bar()
