"""What a person with an operator's key did, for the log that only grows."""

from __future__ import annotations

from fallow.domain.calls.base import Person
from fallow.domain.encoding import tagged_hash
from fallow.domain.errors import Conflict
from fallow.domain.identity import address
from fallow.ports.database import Transaction
from fallow.ports.registry_store import ActionLog, ActionRow


def action_of(by: Person, what: str, at: int, *, once: str, subject: bytes = b"", about: str = "") -> ActionRow:
    """Say what was done at a time (milliseconds since 1970). The same with the same `once` is one action."""
    id_ = tagged_hash(f"fallow/action/1/{what}", once.encode()).hex()[:32]
    return ActionRow(id_, at, address(by.account), by.key_id, what, subject, "", about)


async def note(log: ActionLog, tx: Transaction, row: ActionRow) -> None:
    """Put it into the log, once.

    Raises:
        Conflict: another action has its id (`action.id_taken`): nothing is done that would not be in the log.
    """
    if await log.add_action(tx, row):
        return
    kept = await log.action(tx, row.id)
    if kept is None or (kept.what, kept.subject, kept.about) != (row.what, row.subject, row.about):
        raise Conflict("action.id_taken", f"The id {row.id} belongs to another action.", "Ask for it with another id.")
