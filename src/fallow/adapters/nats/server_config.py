"""The part of a NATS server's configuration that says who may connect."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from fallow.adapters.nats.callout import CALLOUT_SUBJECT
from fallow.adapters.nats.kick import CONNECTIONS_SUBJECT, KICK_SUBJECT
from fallow.adapters.nats.nkeys import Kind, decode_public
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.domain.errors import InvalidInput

NETWORK_ACCOUNT = "NETWORK"
"""The account in which the core and the nodes meet."""

CALLOUT_ACCOUNT = "CALLOUT"
"""The callout's own account: no node can send into it, so no node can pose as a server that asks."""

SYSTEM_ACCOUNT = "$SYS"
"""The server's own account, in which connections are listed and closed."""

AUTH_TIMEOUT_S = 5
"""Seconds that a client has to connect, and so the callout to answer."""

_ROLE = re.compile(r"[a-z][a-z0-9_-]*")


def nats_auth_config(
    *,
    core_public_keys: Mapping[str, str],
    callout_public_key: str,
    callout_issuer_public: str,
    system_public_key: str,
) -> str:
    """Configuration text for the server: who may connect. No anonymous client, no passwords.

    `core_public_keys` are the nkeys (U...) of the network's own processes by role; the server checks these itself,
    and they may do everything in the network's account but touch `$SYS`. `callout_public_key` (U...) is the
    callout's connection, `callout_issuer_public` (A...) signs its answers. `system_public_key`
    (U...) may list and close connections, and nothing else. Everybody else goes through the callout.

    Raises:
        InvalidInput: a key has not the right form, a key is used twice, or a role's name is none.
    """
    for role in core_public_keys:
        if _ROLE.fullmatch(role) is None:
            raise InvalidInput("nats.role", f"{role!r} is not the name of a role.")
    trusted = [*core_public_keys.values(), callout_public_key, system_public_key]
    for key in trusted:
        decode_public(Kind.USER, key)
    decode_public(Kind.ACCOUNT, callout_issuer_public)
    if len(set(trusted)) != len(trusted):
        raise InvalidInput("nats.keys", "Each role needs a key of its own.")
    sections = {
        "authorization": {
            "timeout": AUTH_TIMEOUT_S,
            "auth_callout": {
                "issuer": callout_issuer_public,
                "account": CALLOUT_ACCOUNT,
                "auth_users": trusted,
            },
        },
        "accounts": {
            NETWORK_ACCOUNT: {"users": [_core_user(key) for key in core_public_keys.values()]},
            CALLOUT_ACCOUNT: {"users": [_callout_user(callout_public_key)]},
            SYSTEM_ACCOUNT: {"users": [_system_user(system_public_key)]},
        },
    }
    # JSON is a subset of the server's own format.
    return "".join(f"{name}: {json.dumps(section, indent=2)}\n" for name, section in sections.items())


def _core_user(key: str) -> dict[str, Any]:
    nothing_of_the_system = {"deny": ["$SYS.>"]}
    return {
        "nkey": key,
        "permissions": {"publish": nothing_of_the_system, "subscribe": nothing_of_the_system},
    }


def _callout_user(key: str) -> dict[str, Any]:
    return {
        "nkey": key,
        "permissions": {
            "publish": {"deny": [">"]},
            "subscribe": {"allow": [CALLOUT_SUBJECT, f"{CALLOUT_SUBJECT} callout"]},
            "allow_responses": {"max": 1, "expires": f"{AUTH_TIMEOUT_S}s"},
        },
    }


def _system_user(key: str) -> dict[str, Any]:
    return {
        "nkey": key,
        "permissions": {
            "publish": {"allow": [CONNECTIONS_SUBJECT, KICK_SUBJECT]},
            "subscribe": {"allow": [f"{inbox_prefix(decode_public(Kind.USER, key))}.>"]},
        },
    }
