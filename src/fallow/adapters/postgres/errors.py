"""What asyncpg raises, as errors of the database port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import asyncpg

from fallow.domain.errors import Conflict, Unavailable

_CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)
_TIMEOUTS = (asyncpg.QueryCanceledError, TimeoutError)
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.TooManyConnectionsError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    OSError,
)


def _always() -> bool:
    return True


@contextmanager
def mapped_errors(is_lost: Callable[[], bool] = _always) -> Iterator[None]:
    """Turn what asyncpg raises into the errors of the port; what only a bug can cause passes unchanged.

    `is_lost` tells whether the connection is gone: asyncpg raises InterfaceError for that and for wrong use alike.

    Raises:
        Unavailable: `database.conflict`, `database.timeout` or `database.unreachable`.
        Conflict: `database.duplicate`: a unique key exists already.
    """
    try:
        yield
    except _CONFLICTS as error:
        raise Unavailable(
            "database.conflict", f"another transaction was in the way: {error}", "Run the transaction again."
        ) from error
    except asyncpg.UniqueViolationError as error:
        raise Conflict("database.duplicate", f"this key exists already: {error}") from error
    except _TIMEOUTS as error:  # before _LOST, whose classes are wider
        raise Unavailable("database.timeout", f"a statement took too long: {error}", "Try again.") from error
    except _LOST as error:
        if isinstance(error, asyncpg.InterfaceError) and not is_lost():
            raise
        raise Unavailable(
            "database.unreachable",
            f"the database cannot be reached or was lost: {error}",
            "Check that PostgreSQL runs and its address is right, then try again.",
        ) from error
