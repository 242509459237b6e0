"""Enrolment: what the owner is shown, his signed yes, and the node's entry into the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from types import MappingProxyType
from typing import NamedTuple

import httpx2

from fallow.agent.consent import MICROUSD_PER_USD, Consent, consent_text
from fallow.agent.home import Home, Settings, State
from fallow.agent.http import check_url
from fallow.agent.identity import NodeKey
from fallow.agent.inventory import Inventory
from fallow.agent.join import fetch_network, join_network
from fallow.agent.lending import check_lendings
from fallow.agent.unit import hidden_from
from fallow.domain.bindings import BindingCode, read_code
from fallow.domain.errors import Conflict, InvalidInput
from fallow.domain.places import read_cell
from fallow.domain.resources import GIB_MIB, PRICE_MICROUSD_MAX, Resources, Terms
from fallow.domain.streams import DIRECT_PORT_MIN
from fallow.domain.views.network import NetworkView
from fallow.ports.clock import Clock
from fallow.ports.vertical.plugin import Vertical

DISK_MIB_MAX = 10 * GIB_MIB
"""Of the free disk, so much is offered when the owner does not say."""


ADDRESS_PREFIX = "0x"
COUNTRY_LETTERS = 2
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the owner has said that others may come
PORT_MAX = 65535


class Wishes(NamedTuple):
    """What the owner asked for; None leaves it to the defaults."""

    label: str = ""
    cores: float | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    price_usd_per_core_hour: float = 0.01
    gpus: int | None = None
    price_usd_per_gpu_hour: float = 0.2
    country: str = ""
    place: str = ""
    dial_from: str = ""
    spot_usd_per_core_hour: float | None = None
    direct: str = ""
    lends: Mapping[str, str] = MappingProxyType({})


class Plan(NamedTuple):
    """What joining would mean. `text` is what the owner agrees to."""

    url: str
    network: NetworkView
    settings: Settings
    text: str


def settings_from(wishes: Wishes, machine: Inventory) -> Settings:
    """Turn wishes into what is offered.

    Raises:
        InvalidInput: more than the machine has, or nothing (`agent.over_claimed`); a price that is negative or beyond
            what an offer can say, or one for spot leases above the other (`agent.price`); a country that is not two
            letters (`agent.country`); a place that is none (`place.invalid`); an address to connect from, or a port to
            listen on, that is none.
    """
    total = Resources(
        cpu_milli=machine.cpu_milli if wishes.cores is None else round(wishes.cores * 1000),
        memory_mib=machine.memory_mib // 2 if wishes.memory_mib is None else wishes.memory_mib,
        disk_mib=min(machine.disk_mib // 2, DISK_MIB_MAX) if wishes.disk_mib is None else wishes.disk_mib,
        gpus=len(machine.gpus) if wishes.gpus is None else wishes.gpus,
    )
    if not machine.resources.holds(total) or total.cpu_milli < 1 or total.memory_mib < 1 or not total.is_amount:
        has = machine.resources
        raise InvalidInput(
            "agent.over_claimed",
            f"The machine cannot offer {total.cpu_milli / 1000:g} cores, {total.memory_mib} MiB of memory, "
            f"{total.disk_mib} MiB of disk and {total.gpus} GPUs.",
            f"It has {has.cpu_milli / 1000:g} cores, {has.memory_mib} MiB, {has.disk_mib} MiB free on disk and "
            f"{has.gpus} GPUs.",
        )
    price, spot = wishes.price_usd_per_core_hour, wishes.spot_usd_per_core_hour
    highest = PRICE_MICROUSD_MAX / MICROUSD_PER_USD
    if not all(0 <= asked <= highest for asked in (price, wishes.price_usd_per_gpu_hour)):
        raise InvalidInput("agent.price", f"Prices are from 0 to {highest:g} US dollars an hour.")
    if spot is not None and not 0 <= spot <= price:
        raise InvalidInput("agent.price", "A spot price is not negative, and not above the price on demand.")
    # A spot lease's share of the machine costs the same part of its price for graphics processors as for cores.
    spot_gpu = 0.0 if spot is None or not price else wishes.price_usd_per_gpu_hour * spot / price
    return Settings(
        total=total,
        terms=_terms(price, wishes.price_usd_per_gpu_hour if total.gpus else 0),
        label=wishes.label,
        country=_country(wishes.country),
        cell=read_cell(wishes.place) if wishes.place else "",
        dial_from=_address(wishes.dial_from),
        spot=None if spot is None else _terms(spot, spot_gpu if total.gpus else 0),
        direct=read_direct(wishes.direct),
        lends={name: what for name, what in wishes.lends.items() if what},
    )


def _terms(usd_per_core_hour: float, usd_per_gpu_hour: float) -> Terms:
    return Terms(
        price_microusd_per_core_hour=round(usd_per_core_hour * MICROUSD_PER_USD),
        price_microusd_per_gpu_hour=round(usd_per_gpu_hour * MICROUSD_PER_USD),
    )


async def plan_join(
    client: httpx2.AsyncClient, home: Home, url: str, settings: Settings, verticals: Mapping[str, Vertical]
) -> Plan:
    """Ask the network who it is, and write down what joining it means. Nothing is sent about this machine.

    Raises:
        Conflict: this home has joined a network already (`agent.joined`).
        InvalidInput: what is lent beside leases cannot be (`Vertical.check_lending`).
        FallowError: as `fetch_network`.
    """
    lent = check_lendings(settings.lends, verticals, hidden_from(home.path))
    if home.joined:
        raise Conflict(
            "agent.joined",
            f"{home.path} belongs to a node of {home.state().url} already.",
            "Run: fallow agent run. Or leave it first: fallow agent leave",
        )
    url = check_url(url)
    network = await fetch_network(client, url)
    text = consent_text(
        url=url, net=network.net, home=str(home.path), verticals=verticals, settings=settings, lent=lent
    )
    return Plan(url, network, settings, text)


async def carry_out(
    client: httpx2.AsyncClient,
    home: Home,
    plan: Plan,
    token: str,
    *,
    clock: Clock,
    score: Callable[[], int],
    ca: str = "",
    account: str = "",
) -> State:
    """Join as planned; call it with the owner's yes. Makes the key if there is none, and keeps the signed consent.

    `ca` is what `State` keeps of it. `account` is the code of the account that earns; empty makes a custodial one.

    Raises:
        NotAllowed: the token or the code is wrong, used up or expired; or the key can be read by others.
        InvalidInput: the code is none; if it is an account's address, the hint says how to get one.
        FallowError: as `join_network`.
    """
    key = NodeKey.load_or_create(home.key)
    before_s = _read_account(account, key, plan.network.net).before_s if account else None
    consent = Consent(net=plan.network.net, node=key.node, at=clock.now_ms(), text=plan.text)
    home.keep(home.consent, consent.seal(key.sign))
    joined = await join_network(
        client, plan.url, network=plan.network, key=key, token=token, label=plan.settings.label, code=account
    )
    return home.save(
        State(
            url=plan.url,
            network=plan.network,
            account=joined.account,
            account_signature=joined.account_signature,
            before_s=before_s,
            settings=plan.settings,
            score_cpu=str(score()),
            ca=ca,
        )
    )


def _read_account(text: str, key: NodeKey, net: str) -> BindingCode:
    if text.startswith(ADDRESS_PREFIX):
        raise InvalidInput(
            "agent.account_code",
            f"The account {text[:80]} has to sign for this node.",
            f"On its holder's machine: fallow account bind {key.text} --net {net}   Then join with --account CODE.",
        )
    return read_code(text)


def _country(text: str) -> str:
    country = text.upper()
    if country and not (len(country) == COUNTRY_LETTERS and country.isascii() and country.isalpha()):
        raise InvalidInput("agent.country", f"{text[:80]!r} is no country.", "Two letters (ISO 3166), for example JP.")
    return country


def _address(text: str) -> str:
    try:
        return str(ip_address(text)) if text else ""
    except ValueError as error:
        raise InvalidInput("agent.from", f"{text[:80]!r} is no address of this machine.", "See: ip address") from error


def read_direct(text: str) -> str:
    """Read where buyers may dial this machine: `PORT`, or `ADDR:PORT` of one of its lines; "" is nowhere.

    Raises:
        InvalidInput: it is nothing of that kind (`agent.direct`).
    """
    host, _, port = text.rpartition(":")
    if not text:
        return ""
    try:
        address = ip_address(host.strip("[]")) if host else None
        number = int(port)
    except ValueError:
        number = 0
        address = None
    if not DIRECT_PORT_MIN <= number <= PORT_MAX:
        raise InvalidInput(
            "agent.direct",
            f"{text[:80]!r} is no port that buyers could dial.",
            f"It looks like 8440, or 192.0.2.7:8440; ports begin at {DIRECT_PORT_MIN}.",
        )
    return f"{EVERYWHERE if address is None else address}:{number}"


def split_direct(text: str) -> tuple[str, int]:
    """Return the address and the port that `read_direct` wrote."""
    host, _, port = text.rpartition(":")
    return host, int(port)
