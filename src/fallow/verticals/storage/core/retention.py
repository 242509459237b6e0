"""How long a bucket's new versions are kept where nothing is said of it: a document among its settings. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from fallow.verticals.storage.core.kept import read_kept
from fallow.verticals.storage.core.tariff import DAY_MS

DEFAULT: Final = "lock"
"""The document's name."""
DAYS_MAX: Final = 36_500
Mode = Literal["governance", "compliance"]


class Default(msgspec.Struct, frozen=True):
    """A retention for so long; `years` counts as it is said."""

    mode: Mode
    days: Annotated[int, Meta(ge=0, le=DAYS_MAX)] = 0
    years: Annotated[int, Meta(ge=0, le=DAYS_MAX // 365)] = 0

    @property
    def ms(self) -> int:
        """The time."""
        return (self.days + 365 * self.years) * DAY_MS


_DEFAULT: Final = msgspec.msgpack.Decoder(Default)


def default_of(data: bytes) -> Default | None:
    """Read the document; None where it is empty: new versions are not kept. Raises what `read_kept` raises."""
    return read_kept(data, _DEFAULT) if data else None
