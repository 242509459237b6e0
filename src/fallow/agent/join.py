"""Joining a network: the part of enrolment that goes over HTTP, before there is a connection to the bus."""

from __future__ import annotations

from typing import TypeVar

import httpx2
import msgspec

from fallow.agent.http import check_url, error_of
from fallow.agent.identity import NodeKey
from fallow.domain.api_keys import ApiKey, owners_key_message
from fallow.domain.bindings import read_code
from fallow.domain.calls.keys import OwnersKey
from fallow.domain.calls.nodes import Join, Joined, join_message
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, Unavailable
from fallow.domain.identity import NODE_ID_BYTES, address
from fallow.domain.views.network import NetworkView

ACCOUNT_SIGNATURE_BYTES = 65

T = TypeVar("T")


async def fetch_network(client: httpx2.AsyncClient, url: str) -> NetworkView:
    """Ask a network who it is.

    Raises:
        InvalidInput: the address is none, or not of a network, or in plain text to another machine.
        NotAllowed: its certificate is not one that is trusted (`agent.untrusted`).
        Unavailable: it cannot be reached.
    """
    url = check_url(url)
    view = _read(await _send(client, "GET", f"{url}/v1/network"), NetworkView, url)
    if len(_hex(view.public_key)) != NODE_ID_BYTES or not view.net or not view.bus_url:
        raise InvalidInput("agent.no_network", f"{url} does not answer like a network of Fallow.")
    return view


async def join_network(
    client: httpx2.AsyncClient, url: str, *, network: NetworkView, key: NodeKey, token: str, label: str, code: str = ""
) -> Joined:
    """Make this machine a node, with the token that the operator gave, and the code of the account that it is for.

    The account's half of the binding is checked for its form only: what an EVM signature is worth is known to the
    network's side and to auditors. But the account must be the one whose code it is.

    Raises:
        NotAllowed: the token is wrong, used up or expired.
        InvalidInput, Conflict: the answer is not for this network.
        Unavailable: it cannot be reached.
    """
    proof = key.sign(join_message(token, key.text, code)).hex()
    request = msgspec.json.encode(Join(token=token, node=key.text, proof=proof, label=label, account=code))
    url = check_url(url)
    joined = _read(await _send(client, "POST", f"{url}/v1/join", request), Joined, url)
    if joined.net != network.net:
        raise Conflict("agent.other_network", f"The answer is of network {joined.net[:40]!r}, not {network.net!r}.")
    if code and address(joined.account) != read_code(code).account:
        raise Conflict("agent.other_account", f"The network bound this node to {joined.account}, not to the code's.")
    address(joined.account)
    if len(_hex(joined.account_signature)) != ACCOUNT_SIGNATURE_BYTES:
        raise InvalidInput("agent.binding", "The network did not sign the binding of this node to its account.")
    return joined


async def add_owners_key(client: httpx2.AsyncClient, url: str, *, net: str, key: NodeKey, made: ApiKey) -> None:
    """Have the network let this machine's owner look on with an API key that was drawn here; only its hash leaves.

    Raises:
        FallowError: the network refuses it, or cannot be reached.
    """
    sha256 = made.digest.hex()
    proof = key.sign(owners_key_message(net, key.text, made.key_id, sha256)).hex()
    request = OwnersKey(node=key.text, key_id=made.key_id, sha256=sha256, proof=proof)
    await _send(client, "POST", f"{check_url(url)}/v1/owners-keys", msgspec.json.encode(request))


async def _send(client: httpx2.AsyncClient, method: str, url: str, content: bytes | None = None) -> httpx2.Response:
    try:
        answer = await client.request(method, url, content=content, headers={"Content-Type": "application/json"})
    except httpx2.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise NotAllowed(
                "agent.untrusted",
                f"{url} cannot show that it is the network that it says, so nothing was sent to it: {error}.",
                "Use the whole token: where a network has a certificate authority of its own, it ends with its pin.",
            ) from error
        raise Unavailable(
            "agent.unreachable", f"{url} cannot be reached: {error}.", "Is the address right, and the network up?"
        ) from error
    if not answer.is_success:
        raise error_of(answer)
    return answer


def _read(answer: httpx2.Response, to: type[T], url: str) -> T:
    try:
        return msgspec.json.decode(answer.content, type=to)
    except msgspec.MsgspecError as error:
        raise InvalidInput("agent.no_network", f"{url} does not answer like a network of Fallow: {error}.") from error


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return b""
