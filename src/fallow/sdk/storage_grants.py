"""Grants as they are given to programs and commands: their text, or a file that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fallow.domain.errors import InvalidInput
from fallow.verticals.storage.core.grants import PREFIX

if TYPE_CHECKING:
    from fallow.verticals.storage.client.granting import Grant


def load_grant(text: str) -> Grant | None:
    """Read a grant, or a file that holds one; None where there is none.

    Raises:
        InvalidInput: it is damaged, or there is no such file.
    """
    from fallow.verticals.storage.client.granting import read_grant  # noqa: PLC0415 - heavy

    if not text:
        return None
    if text.strip().startswith(PREFIX):
        return read_grant(text.strip())
    try:
        return read_grant(Path(text).expanduser().read_text("ascii", "replace").strip())
    except (OSError, ValueError) as error:
        hint = f"A grant begins with {PREFIX}; other words are a file that holds one."
        raise InvalidInput("storage.grant_text", "There is no such grant, and no such file.", hint) from error
