"""What all that is shown has in common, and what is shown of an error. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from typing import Any

import msgspec

from fallow.domain.errors import FallowError, kind_of


class View(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of what is shown."""


class ErrorView(View, frozen=True, kw_only=True):
    """What an API answers when it cannot do what was asked."""

    kind: str
    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] = {}


def error_view(error: FallowError) -> ErrorView:
    """Return what is told of an error."""
    return ErrorView(kind=kind_of(error).__name__, code=error.code, message=error.message, hint=error.hint)
