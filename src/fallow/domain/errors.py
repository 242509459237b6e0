"""Every error that a person or a machine can meet.

FallowError
├── InvalidInput        what was sent is malformed or out of range; sending it again changes nothing
├── NotAllowed          the sender may not do this
├── NotFound            the thing does not exist (or not for this sender)
├── Conflict            it contradicts what is already so
├── InsufficientFunds   the account cannot pay for it
├── TooMuch             a limit of size, rate or count was reached
└── Unavailable         a part is not there right now; trying again can help

`code` is for machines and never changes its meaning (`ledger.unknown_account`); the message says what happened
and why; `hint` says what to do next.
"""

from __future__ import annotations

from typing import Any


class FallowError(Exception):
    """Root of the tree: a stable `code`, a sentence for people, and a `hint` on what to do next."""

    retryable = False

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args, vars(self))  # other processes hear of it as it is

    def __str__(self) -> str:
        return f"{self.message} {self.hint} [{self.code}]" if self.hint else f"{self.message} [{self.code}]"


class InvalidInput(FallowError):
    """What was sent is malformed or out of range."""


class NotAllowed(FallowError):
    """The sender may not do this."""


class NotFound(FallowError):
    """The thing does not exist, or not for this sender."""


class Conflict(FallowError):
    """It contradicts what is already so."""


class InsufficientFunds(FallowError):
    """The account cannot pay for it."""


class TooMuch(FallowError):
    """A limit of size, rate or count was reached."""


class Unavailable(FallowError):
    """A part is not there right now; trying again can help."""

    retryable = True


KINDS: dict[str, type[FallowError]] = {
    kind.__name__: kind
    for kind in (InvalidInput, NotAllowed, NotFound, Conflict, InsufficientFunds, TooMuch, Unavailable)
}


def kind_of(error: FallowError) -> type[FallowError]:
    """The class of this tree that an error belongs to, which may be a special case of it."""
    return next((kind for kind in KINDS.values() if isinstance(error, kind)), Unavailable)


def _remade(kind: type[FallowError], args: tuple[Any, ...], fields: dict[str, Any]) -> FallowError:
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    return error
