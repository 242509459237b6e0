"""Sends what waits, each message until it was taken, with growing waits in between."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from fallow.domain.errors import FallowError, Unavailable
from fallow.ports.alert_store import AlertStore, Message
from fallow.ports.alert_ways import Hook, Mail
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.mishaps import MISHAPS, internal
from fallow.services.alerts.messages import Messages
from fallow.services.alerts.secrets import ChannelSecrets

KINDS: Final = ("email", "webhook")
PAUSE_S: Final = 2.0
AT_ONCE: Final = 16
"""Messages by mail, and as many to webhooks; of each address one."""
HELD_MS: Final = 120_000
"""Above what one attempt takes: whoever began it and was killed leaves it to the next."""

FIRST_WAIT_MS: Final = 10_000
WAIT_MS_MAX: Final = 6 * 3_600_000
TRIES_MAX: Final = 12
"""With waits that grow threefold that is a day and a half."""

CONFIRM_TRIES_MAX: Final = 6
"""Some forty minutes: a code counts for an hour."""

_log = logging.getLogger(__name__)


def wait_ms(tries: int) -> int:
    """How long to wait after so many attempts."""
    longer: int = 3 ** (tries - 1)
    return min(WAIT_MS_MAX, FIRST_WAIT_MS * longer)


class Sending:
    """Sends. `mail` is None where the operator has set no mail server."""

    def __init__(
        self,
        *,
        secrets: ChannelSecrets,
        messages: Messages,
        clock: Clock,
        database: Database,
        store: AlertStore,
        mail: Mail | None,
        hook: Hook,
    ) -> None:
        self._secrets = secrets
        self._messages = messages
        self._clock = clock
        self._database = database
        self._store = store
        self._mail = mail
        self._hook = hook

    async def for_ever(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for kind in KINDS:
                group.create_task(self._keep_sending(kind))

    async def take(self, kind: str, most: int) -> Sequence[Message]:
        """Take what is due: each is to be sent now, and by nobody else meanwhile.

        Raises:
            Unavailable: the database is away.
        """
        now = self._clock.now_ms()
        async with self._database.transaction() as tx:
            return await self._store.take_messages(tx, kind, now, now + HELD_MS, most)

    async def send(self, message: Message) -> None:
        """Try to send it, and take note of what became of it.

        Raises:
            Unavailable: the database is away; it is tried again.
        """
        try:
            confirmed = await self._by(message)
        except FallowError as error:
            await self._failed(message, error)
            return
        except Exception as error:  # noqa: BLE001 - one message that hits a bug must not stop the others
            MISHAPS.note("alerts.sending", error)
            await self._failed(message, internal())
            return
        async with self._database.transaction() as tx:
            if confirmed:
                await self._store.confirm(tx, message.salt, self._clock.now_ms())
            await self._store.sent(tx, message)

    async def _keep_sending(self, kind: str) -> None:
        """Send each message by itself: one whose server hangs takes a place, and holds nobody else up."""
        under_way = set[asyncio.Task[None]]()
        async with asyncio.TaskGroup() as group:
            while True:
                free = AT_ONCE - len(under_way)
                due: Sequence[Message] = ()
                with _waiting():
                    due = await self.take(kind, free)
                for message in due:
                    task = group.create_task(self._try(message))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                if len(due) < free:
                    await self._clock.sleep(PAUSE_S)
                else:
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)

    async def _try(self, message: Message) -> None:
        with _waiting():
            await self.send(message)

    async def _by(self, message: Message) -> bool:
        """Send it its way; whether that has confirmed the address."""
        if message.kind == "email":
            if self._mail is None:
                raise Unavailable("alerts.no_mail", "This network's operator has set no mail server.")
            await self._mail.send(self._messages.letter(message))
            return False
        body = self._messages.delivery(message)
        answer = await self._hook.post(message.address, body, self._signed(message, body))
        if message.what != "confirm":
            return False
        # The challenge alone: a server that sends back whatever it is sent has agreed to nothing.
        if answer.strip() != self._secrets.challenge(message).encode():
            raise Unavailable(
                "alerts.challenge", "The answer was not the text that stands in `challenge`, and no more."
            )
        return True

    def _signed(self, message: Message, body: bytes) -> Mapping[str, str]:
        now_s = self._clock.now_ms() // 1000
        signature = hmac.digest(self._secrets.signing(message).encode(), f"{now_s}.".encode() + body, "sha256")
        return {
            "Content-Type": "application/json",
            "Fallow-Timestamp": str(now_s),
            "Fallow-Signature": f"v1={signature.hex()}",
        }

    async def _failed(self, message: Message, error: FallowError) -> None:
        now = self._clock.now_ms()
        most = TRIES_MAX if message.what == "alerts" else CONFIRM_TRIES_MAX
        due_at = now + wait_ms(message.tries) if message.tries < most else None
        async with self._database.transaction() as tx:
            await self._store.failed(tx, message, now, f"{error.code}: {error.message}", due_at)


@contextmanager
def _waiting() -> Iterator[None]:
    """Leave what the database is away for until later."""
    try:
        yield
    except FallowError as error:
        _log.warning("messages wait: %s", error)
