"""Mails through the operator's SMTP server, by the standard library in a thread."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from pathlib import Path
from typing import Final, Literal, NamedTuple

from fallow.domain.errors import Unavailable
from fallow.ports.alert_ways import Letter

TIMEOUT_S: Final = 10.0
"""For each answer of the server."""

WHOLE_S: Final = 100.0
"""For all of a letter: a server that answers ever so little must not hold up the others, nor have it sent twice."""

AT_ONCE: Final = 16
"""Letters, on threads of their own: a server that hangs must not take those of all else in the process."""


class _OneLine(UnstructuredHeader, BaseHeader):
    """A header that is not folded: a long URL would be encoded, and no reader looks for one in that."""

    def fold(self, *, policy: Policy) -> str:
        """Return its line."""
        return f"{self.name}: {self}{policy.linesep}"


_HEADERS: Final = HeaderRegistry()
_HEADERS.map_to_type("List-Unsubscribe", _OneLine)
_POLICY: Final = SMTP.clone(header_factory=_HEADERS)


class MailServer(NamedTuple):
    """Where mails are handed over, and as whom. The secret's file is read anew for each, so that it can be changed.

    `tls` is by STARTTLS, from the first byte, or none.
    """

    host: str
    port: int
    tls: Literal["starttls", "tls", "none"]
    sender: str
    user: str = ""
    secret_file: Path | None = None
    context: ssl.SSLContext | None = None


class SmtpMail:
    """See `fallow.ports.alert_ways.Mail`."""

    def __init__(self, server: MailServer) -> None:
        self._server = server
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mail")

    async def send(self, letter: Letter) -> None:
        """Hand a letter over."""
        message = composed(letter, self._server.sender)
        try:
            async with asyncio.timeout(WHOLE_S):
                await asyncio.get_running_loop().run_in_executor(self._threads, self._send, message)
        except TimeoutError:
            raise Unavailable("alerts.mail", f"The mail server took over {WHOLE_S:g} seconds.") from None

    def _send(self, message: EmailMessage) -> None:
        server = self._server
        context = server.context or ssl.create_default_context()
        taken = False
        try:
            with (
                smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=context)
                if server.tls == "tls"
                else smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
            ) as session:
                if server.tls == "starttls":
                    session.starttls(context=context)
                if server.user and server.secret_file is not None:
                    session.login(server.user, server.secret_file.read_text("utf-8").strip())
                session.send_message(message)
                taken = True
        except (OSError, smtplib.SMTPException) as error:
            if taken:  # a goodbye that goes wrong takes nothing back
                return
            raise Unavailable("alerts.mail", f"The mail server did not take it: {_reason(error)}.") from error


def composed(letter: Letter, sender: str) -> EmailMessage:
    """Return the message. Its headers are made by the library's parts, which refuse a line break in any of them.

    They decode encoded words, so that these could hold one: in an address there is none.
    """
    if "=?" in letter.to:
        raise ValueError("an encoded word is no part of an address")
    user, _, domain = letter.to.rpartition("@")
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = Address(username=user, domain=domain)
    message["Subject"] = letter.subject
    message["Date"] = datetime.fromtimestamp(letter.at // 1000, UTC)
    message["Message-ID"] = f"<{letter.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    if letter.stop_url:
        message["List-Unsubscribe"] = f"<{letter.stop_url}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(letter.text)
    return message


def _reason(error: Exception) -> str:
    """What the server's owner can act on: its code and no more, for answers may hold addresses."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"recipient refused, {next(iter(error.recipients.values()))[0]}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{type(error).__name__} {error.smtp_code}"
    return type(error).__name__
