"""Who may ask: keys, the accounts they belong to, and what they may do."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from fallow.domain.errors import InvalidInput
from fallow.domain.identity import address

READ: Final = "read"
WRITE: Final = "write"
"""What a key may do (`User.may`): look at things, and change them."""


class User(NamedTuple):
    """One API key; several belong to one account. `may` holds of `READ` and `WRITE`."""

    access_key: str
    secret: str
    account: str
    name: str
    may: frozenset[str] = frozenset({READ, WRITE})


class Owner(NamedTuple):
    """An account as others see it."""

    account: str
    name: str


class Users(Protocol):
    """Keys and accounts."""

    async def user(self, access_key: str) -> User | None:
        """Look a key up; None: there is none, or it was revoked."""
        ...

    async def owner(self, account: str) -> Owner | None:
        """Look an account up, by its id or its e-mail address; None: there is none."""
        ...


def owner_by_address(account: str) -> Owner | None:
    """An account as it is known by its address, where it has no other name; None: this is no address."""
    try:
        address(account)
    except InvalidInput:
        return None
    return Owner(account, account)
