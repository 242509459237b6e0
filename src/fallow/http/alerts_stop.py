"""How who is sent alerts by mail ends that, by the link that each mail names (RFC 8058): no key needed.

A mail program's one click is a POST. A person follows the link instead, which alone must end nothing, since programs
that look for viruses follow it, too: a page says what it is and has a button.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Annotated, Final

from litestar import MediaType, Response, get, post
from litestar.params import PathParameter

from fallow.domain import calls
from fallow.domain.errors import NotFound
from fallow.http.answers import public
from fallow.http.auth import anyone
from fallow.http.params import Parts
from fallow.ports.rpc import Empty

Token = Annotated[str, PathParameter(pattern="^[0-9a-f]{40}-(email|webhook)-[0-9a-f]{32}$", max_length=81)]
Words = tuple[str, str]
"""A title and a text."""

ASKS: Final[dict[str, Words]] = {
    "en": (
        "Stop these mails?",
        (
            "Alerts of the account {account} on the Fallow network {net} come to your address. This button stops them. "
            "The account's page can turn them on again."
        ),
    ),
    "ja": (
        "メールを停止しますか",
        (
            "Fallow ネットワーク {net} のアカウント {account} の警告が、あなたのアドレスに届いています。"
            "ボタンを押すと停止します。アカウントのページで再開できます。"
        ),
    ),
}
DONE: Final[dict[str, Words]] = {
    "en": ("The mails are stopped", "Alerts of the account {account} come to your address no more."),
    "ja": ("メールを停止しました", "アカウント {account} の警告は、あなたのアドレスにはもう届きません。"),
}
NOTHING: Final[dict[str, Words]] = {
    "en": ("There is nothing to stop", "These mails are stopped already, or they now go to another address."),
    "ja": ("停止するものがありません", "このメールはすでに停止されているか、宛先が変更されています。"),
}
BUTTON: Final = "Stop · 停止する"

STYLE: Final = (
    "body{max-width:36rem;margin:3rem auto;padding:0 1rem;font:1rem/1.6 system-ui;overflow-wrap:anywhere}"
    "button{font:inherit}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@post("/v1/alerts/stop/{token:str}", guards=[anyone], status_code=200, responses=public(404), tags=["account"])
async def stop(gateway: Parts, token: Token) -> Empty:
    """End them by what each mail names (RFC 8058): no key needed."""
    return await gateway.ask(calls.alerts.STOP_ALERTS, calls.alerts.StopAlerts(token=token), Empty)


@get("/v1/alerts/stop/{token:str}", guards=[anyone], include_in_schema=False)
async def ask(gateway: Parts, token: Token) -> Response[str]:
    """Ask who follows the link whether it shall end."""
    button = f'<form method="post" action="/v1/alerts/stop/{token}/page"><button>{BUTTON}</button></form>'
    return _page(ASKS, gateway.network.net, token, below=button)


@post("/v1/alerts/stop/{token:str}/page", guards=[anyone], include_in_schema=False)
async def stop_for_person(gateway: Parts, token: Token) -> Response[str]:
    """End it by that page's button."""
    try:
        await gateway.ask(calls.alerts.STOP_ALERTS, calls.alerts.StopAlerts(token=token), Empty)
    except NotFound:
        return _page(NOTHING, gateway.network.net, token, status=404)
    return _page(DONE, gateway.network.net, token)


def _page(words: dict[str, Words], net: str, token: str, *, below: str = "", status: int = 200) -> Response[str]:
    """Write it in both languages: whose browser asks for which is not known of mails' readers."""
    known = {"net": escape(net), "account": f"0x{token.partition('-')[0]}"}
    parts = "".join(
        f'<section lang="{language}"><h1>{title}</h1><p>{text.format_map(known)}</p></section>'
        for language, (title, text) in words.items()
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="robots" content="noindex">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>{words['en'][0]} · {words['ja'][0]}</title><style>{STYLE}</style></head>"
        f"<body>{parts}{below}</body></html>"
    )
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
    return Response(page, status_code=status, headers=headers, media_type=MediaType.HTML)


ROUTES = [stop, ask, stop_for_person]
