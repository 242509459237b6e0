"""How to reach a network, and its contracts. Times are milliseconds since 1970 UTC."""

from __future__ import annotations

from fallow.domain.billing import FeePolicy
from fallow.domain.views.base import View
from fallow.domain.views.prices import FeeView, MeterPriceView, TariffView


class ContractsView(View, frozen=True, kw_only=True):
    """Addresses of a network's contracts. `block` is the number of the block after which all of them were there.

    `operator` is the account that made them, `chain_id` the number of the chain that they are on.
    """

    block: int
    settlement: str
    token: str
    distributor: str
    validators: str
    vault: str
    timelock: str
    operator: str = ""
    chain_id: int = 0


class NetworkView(View, frozen=True, kw_only=True):
    """How to reach a network and check its signatures. `public_key` (hex) signs promises and tickets.

    `url` is what other machines reach it by. `install_sha256` is of the script that installs its agent; "" where it
    hands out none. `chain_url` is the JSON-RPC of its chain, `chain_id` the chain's number; "" and 0 where it has none.
    `contracts` are on that chain. `gateways` are the URLs of verticals' own gateways by their roles, such as `s3`.
    `fee_ppm` is what it keeps of each price, in millionths; a network that does not say so keeps what is usual.
    `next_fee` is what holds after that, and from when; None where nothing else was said. `meters` are what shared
    services cost who subscribes now, `next_tariffs` what they cost after that.
    """

    net: str
    public_key: str
    bus_url: str
    preset: str
    version: str
    url: str = ""
    install_sha256: str = ""
    chain_url: str = ""
    chain_id: int = 0
    contracts: ContractsView | None = None
    gateways: dict[str, str] = {}
    fee_ppm: int = FeePolicy().fee_ppm
    next_fee: FeeView | None = None
    meters: list[MeterPriceView] = []
    next_tariffs: list[TariffView] = []
