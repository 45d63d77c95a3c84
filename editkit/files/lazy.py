"""Values that stay where they are stored: each is read when it is asked for, and nothing keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Mapping[str, T], Generic[T]):
    """Name → value, read anew at every look. A loop over its `items()` holds one at a time.

    Args:
        reads: name → what reads it.

    >>> read = []
    >>> numbers = Lazy({"one": lambda: read.append("one") or 1})
    >>> list(numbers), len(read), numbers["one"] + numbers["one"], len(read)
    (['one'], 0, 2, 2)
    """

    def __init__(self, reads: Mapping[str, Callable[[], T]]) -> None:
        self._reads = reads

    @classmethod
    def of(cls, values: Mapping[str, T], names: Mapping[str, str]) -> Lazy[T]:
        """Those of `values` that `names` has, by other names.

        Args:
            names: new name → that in `values`.

        Raises:
            KeyError: `values` lacks one.
        """
        missing = next((own for own in names.values() if own not in values), None)
        if missing is not None:
            raise KeyError(missing)
        return cls({name: partial(values.__getitem__, own) for name, own in names.items()})

    def through(self, change: Callable[[T], T]) -> Lazy[T]:
        """What `change` makes of each."""
        return Lazy({name: partial(self._changed, name, change) for name in self._reads})

    def _changed(self, name: str, change: Callable[[T], T]) -> T:
        return change(self[name])

    def __getitem__(self, name: str) -> T:
        return self._reads[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._reads

    def __iter__(self) -> Iterator[str]:
        return iter(self._reads)

    def __len__(self) -> int:
        return len(self._reads)
