"""How many connections are open, in all and from one address: who has shown no key yet takes a bounded part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fallow.domain.errors import TooMuch
from fallow.domain.networks import line_of


class Places:
    """At most `total` at once, and `per_address` of them from one address, or one /64 of IPv6: see `line_of`."""

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many are taken now."""
        return self._taken.total()

    @contextmanager
    def one_for(self, address: str) -> Iterator[None]:
        """Take a place while the context is open.

        Raises:
            TooMuch: there is none (`rate.connections`).
        """
        line = line_of(address)
        if self._taken.total() >= self._total or self._taken[line] >= self._per_address:
            raise TooMuch(
                "rate.connections",
                f"At most {self._total} connections are open here, {self._per_address} of them from one address.",
                "Try again later.",
            )
        self._taken[line] += 1
        try:
            yield
        finally:
            self._taken[line] -= 1
            if not self._taken[line]:
                del self._taken[line]
