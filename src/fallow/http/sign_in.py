"""Signing in with a browser, and the API keys of whoever has."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.params import JSONBody
from msgspec import Meta

from fallow.domain import calls
from fallow.domain.calls.base import Person
from fallow.domain.errors import NotAllowed
from fallow.domain.identity import address
from fallow.domain.orders import Label
from fallow.domain.views.base import View
from fallow.domain.views.keys import KeyView
from fallow.http.answers import keyed, public
from fallow.http.auth import anyone_here, anyone_or_member, buyer
from fallow.http.gateway import Gateway
from fallow.http.keys import KEY_CHARACTERS_MAX
from fallow.http.limits import address_of
from fallow.http.params import Account, AfterKey, By, KeyId, Limit, Parts
from fallow.http.public import host_of
from fallow.http.sessions import check_csrf, cookie_name, csrf_of, secret_of, set_cookie
from fallow.ports.rpc import Empty
from fallow.ports.sign_in_text import SignInText

ROLES = {
    "buy": ["buyer"],
    "operate": ["viewer", "operator"],
    "provide": ["provider"],
    "view": ["viewer"],
    "withdraw": ["provider"],
}
"""What a person is by each scope: whoever may say where earnings go is who provides, too."""

NO_CHAIN = 1
"""A text to sign names a chain; that of a network without one names Ethereum's."""
Scopes = Annotated[list[Annotated[str, Meta(max_length=20)]], Meta(min_length=1, max_length=10)]
KeyRequest = Request[Any, calls.keys.KeyInfo, Any]


class SignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API key, shown once for a session."""

    key: Annotated[str, Meta(min_length=1, max_length=KEY_CHARACTERS_MAX)]

    def __repr__(self) -> str:
        """Leave the key out."""
        return "SignIn()"


class WalletChallenge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account that wants to sign in with its wallet, as 0x and lower-case hex."""

    account: calls.sessions.WalletAddress


class ChallengeView(View, frozen=True, kw_only=True):
    """The text for the wallet to sign (`personal_sign`), and its nonce."""

    text: str
    nonce: str


class WalletSignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A wallet's signature of the text with this nonce: 65 bytes as 0x and lower-case hex."""

    account: calls.sessions.WalletAddress
    nonce: calls.sessions.SignInNonce
    signature: calls.sessions.WalletSignature


class SessionView(View, frozen=True, kw_only=True):
    """Who asks: a stranger has no `roles`, and his `account` is "".

    With a session, `csrf` goes along in the header `Fallow-CSRF` with all that changes something, and it ends at
    `ends_at` (milliseconds since 1970) or earlier where it is not used; "" and 0 with an API key.
    """

    net: str
    roles: list[str]
    account: str = ""
    key_id: str = ""
    scopes: list[str] = []
    csrf: str = ""
    ends_at: int = 0


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further API key for one's own account, which may do at most what the asking one may."""

    scopes: Scopes = msgspec.field(default_factory=lambda: ["buy"])
    label: Label = ""


@post("/v1/session", guards=[anyone_here], responses=public(401, 403, 413), tags=["session"])
async def sign_in(gateway: Parts, request: KeyRequest, data: JSONBody[SignIn]) -> Response[SessionView]:
    """Open a session with an API key. Its secret comes as a cookie that no script reads; it lasts twelve hours.

    It ends after two hours without use, with `DELETE`, and with its key.
    """
    gateway.sign_ins.take(address_of(request))
    return _opened(gateway, request, await gateway.sessions.open(data.key))


@post("/v1/session/challenge", guards=[anyone_here], status_code=200, responses=public(403, 413), tags=["session"])
async def challenge(gateway: Parts, request: KeyRequest, data: JSONBody[WalletChallenge]) -> ChallengeView:
    """Ask for a text to sign with a wallet (EIP-4361), within ten minutes and once. It names this console's host."""
    gateway.sign_ins.take(address_of(request))
    asked = await gateway.sessions.challenge(data.account)
    text = SignInText(
        request.scope["scheme"],
        _domain(gateway, request),
        address(data.account),
        gateway.network.chain_id or NO_CHAIN,
        asked.nonce,
        asked.asked_at,
    )
    return ChallengeView(text=str(text), nonce=asked.nonce)


@post("/v1/session/wallet", guards=[anyone_here], responses=public(401, 403, 413), tags=["session"])
async def sign_in_by_wallet(gateway: Parts, request: KeyRequest, data: JSONBody[WalletSignIn]) -> Response[SessionView]:
    """Open a session for an account whose wallet signed such a text: it may buy and withdraw."""
    gateway.sign_ins.take(address_of(request))
    signed = calls.sessions.OpenByWallet(
        account=data.account,
        nonce=data.nonce,
        signature=data.signature,
        scheme=request.scope["scheme"],
        domain=_domain(gateway, request),
        chain_id=gateway.network.chain_id or NO_CHAIN,
    )
    return _opened(gateway, request, await gateway.sessions.open_by_wallet(signed))


@get("/v1/session", guards=[anyone_or_member], responses=public(401), tags=["session"])
async def session(gateway: Parts, request: KeyRequest) -> SessionView:
    """Who am I? A stranger, the holder of an API key, or whoever signed in."""
    key: calls.keys.KeyInfo | None = request.scope.get("auth")
    if key is None:
        return _of_stranger(gateway)
    secret = "" if "Authorization" in request.headers else secret_of(request, gateway.network.net)
    if not secret:
        return _of_key(gateway, key)
    return _of_session(gateway, await gateway.sessions.check(secret), secret)


@delete("/v1/session", guards=[anyone_here], status_code=200, responses=public(403), tags=["session"])
async def sign_out(gateway: Parts, request: KeyRequest) -> Response[SessionView]:
    """End the session of this browser, and take its cookie back; without one nothing happens. Answers as a stranger."""
    net = gateway.network.net
    if secret := secret_of(request, net):
        check_csrf(request, secret)
        await gateway.sessions.end(secret)
    cookie = set_cookie(cookie_name(net, request.scope["scheme"]), "", 0)
    return Response(_of_stranger(gateway), headers={"Set-Cookie": cookie})


@get("/v1/account/api-keys", guards=[buyer], responses=keyed(), tags=["account"])
async def own_keys(gateway: Parts, payer: Account, after: AfterKey = "", limit: Limit = 200) -> list[KeyView]:
    """API keys of your account by their public part, those that were revoked too."""
    return await gateway.ask(
        calls.keys.OWN_KEYS, calls.base.AccountRef(account=payer, after=after, limit=limit), list[KeyView]
    )


@post("/v1/account/api-keys", guards=[buyer], responses=keyed(413), tags=["account"])
async def make_key(
    gateway: Parts, request: KeyRequest, payer: Account, by: By, data: JSONBody[NewKey]
) -> calls.keys.Secret:
    """Make a further API key for your account. It is shown once."""
    if beyond := sorted(set(data.scopes) - set(request.auth.scopes)):
        raise NotAllowed("scope.missing", f"What asks may not {beyond[0]} itself.", "Ask with a key that may.")
    # What it makes stays for ever, as other words do that an account has recorded for nothing.
    gateway.words.take(payer)
    asked = calls.keys.MakeKey(
        account=payer, scopes=sorted(set(data.scopes)), label=data.label, by=_if_operator(request, by)
    )
    return await gateway.ask(calls.keys.CREATE_KEY, asked, calls.keys.Secret)


@delete("/v1/account/api-keys/{key_id:str}", guards=[buyer], responses=keyed(404), tags=["account"])
async def revoke_own_key(gateway: Parts, request: KeyRequest, payer: Account, by: By, key_id: KeyId) -> None:
    """End an API key of your account, and the sessions that it opened; elsewhere they work for seconds yet."""
    asked = calls.keys.RevokeKey(key_id=key_id, account=payer, by=_if_operator(request, by))
    await gateway.ask(calls.keys.REVOKE_KEY, asked, Empty)
    gateway.keys.forget(key_id)
    gateway.sessions.forget(key_id)


def _if_operator(request: KeyRequest, by: Person) -> Person | None:
    """Who asks, if it is an operator: among his own keys are those that operate, so that they are in the log, too."""
    return by if "operate" in request.auth.scopes else None


def _opened(gateway: Gateway, request: KeyRequest, info: calls.sessions.SessionInfo) -> Response[SessionView]:
    life_s = max(0, info.ends_at - gateway.clock.now_ms()) // 1000
    cookie = set_cookie(cookie_name(gateway.network.net, request.scope["scheme"]), info.secret, life_s)
    return Response(_of_session(gateway, info, info.secret), headers={"Set-Cookie": cookie})


def _domain(gateway: Gateway, request: KeyRequest) -> str:
    """Whom a browser has asked, as its wallet compares it with the page's address: by a name of the network's own.

    A page of somebody else names itself, to its readers' wallets and, from its own server, to us: what it had signed so
    would be good here.
    """
    asked = request.headers.get("Host", "")
    name, port = host_of(asked), asked.rpartition(":")[2]
    plain = name.strip("[]")
    written = {name, f"{name}:{port}"} if port.isdecimal() else {name}
    if asked.lower() not in written or not {plain, f"*.{plain.partition('.')[2]}"} & gateway.names:
        raise NotAllowed(
            "session.host",
            "A wallet signs in at an address that the network knows as its own, and this is none.",
            "Open the console at another one, or have its operator name this one in `names`.",
        )
    return asked


def _of_stranger(gateway: Gateway) -> SessionView:
    return SessionView(net=gateway.network.net, roles=[])


def _of_key(gateway: Gateway, key: calls.keys.KeyInfo) -> SessionView:
    roles = list(dict.fromkeys(role for scope in key.scopes for role in ROLES.get(scope, [])))
    return SessionView(net=gateway.network.net, roles=roles, account=key.account, key_id=key.key_id, scopes=key.scopes)


def _of_session(gateway: Gateway, info: calls.sessions.SessionInfo, secret: str) -> SessionView:
    view = _of_key(gateway, info.key)
    return msgspec.structs.replace(view, csrf=csrf_of(secret), ends_at=info.ends_at)


PUBLIC_ROUTES = [sign_in, challenge, sign_in_by_wallet, session, sign_out]
ROUTES = [own_keys, make_key, revoke_own_key]
