"""The part of the registry that tells accounts of their alerts, with the operator's mail server."""

from __future__ import annotations

import secrets
import ssl
from pathlib import Path

from fallow.adapters.mail import MailServer, SmtpMail
from fallow.adapters.postgres.alerts import PostgresAlertStore
from fallow.adapters.webhook import HttpHook
from fallow.bootstrap.ground import Ground
from fallow.bootstrap.plugins import load_verticals
from fallow.bootstrap.settings import Settings
from fallow.domain.errors import InvalidInput
from fallow.domain.networks import is_loopback
from fallow.ports.account_alerts import tellers
from fallow.ports.public_only import PublicOnly, is_public
from fallow.services.alerts.addresses import check_address
from fallow.services.alerts.messages import Messages
from fallow.services.alerts.secrets import ChannelSecrets
from fallow.services.alerts.sending import Sending
from fallow.services.alerts.service import Alerting
from fallow.services.alerts.watching import Watching


def alerting(ground: Ground) -> Alerting:
    """Put it together.

    Raises:
        InvalidInput: the settings of the mail server do not fit together.
    """
    settings, store, known = ground.settings, PostgresAlertStore(), ChannelSecrets(ground.keys.custody_seed)
    mail = mail_of(settings)
    sending = Sending(
        secrets=known,
        messages=Messages(ground.place.net, ground.place.url, known),
        clock=ground.clock,
        database=ground.database,
        store=store,
        mail=mail,
        hook=hook_of(anywhere=settings.alerts_anywhere),
    )
    return Alerting(
        secrets=known,
        random_bytes=secrets.token_bytes,
        bus=ground.bus,
        clock=ground.clock,
        database=ground.database,
        store=store,
        sending=sending,
        watching=Watching(
            bus=ground.bus,
            clock=ground.clock,
            database=ground.database,
            store=store,
            verticals=tellers(load_verticals().values()),
        ),
        mail=mail is not None,
        plain=settings.alerts_anywhere,
    )


def hook_of(*, anywhere: bool) -> HttpHook:
    """Make the way to webhooks: to the public internet alone, or `anywhere`."""
    tls = ssl.create_default_context()
    return HttpHook(
        lambda: PublicOnly(tls=tls, allowed=(lambda _: True) if anywhere else is_public, plain=anywhere),
    )


def mail_of(settings: Settings) -> SmtpMail | None:
    """Make the way to the operator's mail server; None where he has set none.

    Raises:
        InvalidInput: he set it, but no address that mails come from, a user without a password's file, or a line
            without TLS that leaves this machine.
    """
    if not settings.smtp_host:
        return None
    try:
        check_address("email", settings.smtp_from, plain=False)
    except InvalidInput:
        raise InvalidInput("settings.smtp", "smtp_from is no mail address.", "Set it beside smtp_host.") from None
    if bool(settings.smtp_user) != bool(settings.smtp_secret):
        raise InvalidInput("settings.smtp", "A mail server's user and the file of his password go together.")
    if settings.smtp_tls == "none" and not is_loopback(settings.smtp_host):
        raise InvalidInput("settings.smtp", "Mails leave this machine over TLS alone.", "Set smtp_tls to starttls.")
    return SmtpMail(
        MailServer(
            settings.smtp_host,
            settings.smtp_port,
            settings.smtp_tls,
            settings.smtp_from,
            settings.smtp_user,
            Path(settings.smtp_secret) if settings.smtp_secret else None,
        )
    )
