"""Which addresses an account may name: a form that no header, URL or log can be broken with."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from fallow.domain.errors import InvalidInput

_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_MAIL: Final = re.compile(rf"(?!.*=\?)[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@(?:{_LABEL}\.)+[A-Za-z]{{2,63}}")
"""The dot-atom of RFC 5322 at a DNS name, without quotes, comments or letters beyond ASCII.

Nor does an encoded word (RFC 2047) begin in it: whoever writes the header would decode it, line breaks and all.
"""

MAIL_CHARACTERS_MAX: Final = 254


def check_address(kind: str, address: str, *, plain: bool) -> None:
    """Refuse what is no address of that kind; `plain` lets webhooks be reached without TLS.

    Raises:
        InvalidInput: it is none (`alerts.address`).
    """
    if kind == "email":
        if len(address) > MAIL_CHARACTERS_MAX or not _MAIL.fullmatch(address):
            raise InvalidInput("alerts.address", "This is no mail address.", "Name one like ann@example.org.")
        return
    hint = "Name one like https://example.org/alerts, without a user, a password or a #."
    try:
        url = urlsplit(address)
        whole = bool(url.hostname) and url.port != 0
    except ValueError:
        raise InvalidInput("alerts.address", "This is no URL.", hint) from None
    if not whole or url.scheme not in ({"https", "http"} if plain else {"https"}) or "@" in url.netloc or url.fragment:
        raise InvalidInput("alerts.address", "A webhook is an https URL.", hint)
