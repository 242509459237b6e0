"""Records of an epoch as the fold reads them, without the batches around them."""

from __future__ import annotations

from typing import Any

import msgspec
from coincurve import PrivateKey
from nacl.signing import SigningKey

from fallow.domain.bindings import binding_text
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.facts import (
    LeaseAccepted,
    LeaseSettled,
    Moved,
    NodeEnrolled,
    UsageReceipt,
)
from fallow.domain.records import Body, make_record
from fallow.domain.resources import Resources
from fallow.domain.rewards.pools import ByDate, ByIssuance, Yearly
from fallow.domain.rewards.schedules import Held
from fallow.domain.wallets import address_of, sign_text
from fallow.verticals.compute.core.metering import ComputeMetering
from tests.epoch_files import NET
from tests.epoch_files import NETWORK_KEY as NETWORK

UNTIL_MS = 1_800_000_000_000
NODES = tuple(bytes(SigningKey(bytes([number]) * 32).verify_key) for number in range(1, 4))
KEYS = tuple(PrivateKey(bytes([number]) * 32) for number in range(1, 4))
ACCOUNTS = tuple(address_of(key) for key in KEYS)
TOKEN, COIN = b"t" * 20, b"c" * 20
WORK_ONLY = Rules(
    model="work_only",
    credit=2,
    settlement=COIN,
    token=TOKEN,
    schedule=ByDate(base=(300 * 10**12).to_bytes(32), period=3),
    cap_ppm=1_000_000,
    weights={"compute": 3, "other": 1},
)
"""Less than what the fees of a story are worth, so that the schedule decides."""
BY_ISSUANCE = msgspec.structs.replace(
    WORK_ONLY,
    schedule=ByIssuance(cap=(10**15).to_bytes(32), base=(10**12).to_bytes(32), blocks=90),
    cap_ppm=400_000,
    weights={},
)
YEARLY = msgspec.structs.replace(
    BY_ISSUANCE, schedule=Yearly(first_year=(10**15).to_bytes(32), keep_ppm=500_000, epochs_a_year=2), price=3_000_000
)
BURNING = msgspec.structs.replace(YEARLY, model="burn_and_mint", net_cap=(10**13).to_bytes(32), feeds=sorted(ACCOUNTS))
HOLDING = msgspec.structs.replace(WORK_ONLY, held=Held(withheld_ppm=[750_000, 333_333], step=1, release=2))
VESTING = msgspec.structs.replace(
    BY_ISSUANCE, vesting=3, held=Held(withheld_ppm=[500_000], step=1, release=3, parts="incentive")
)
METERINGS: dict[str, Metering] = {"compute": ComputeMetering()}


def epoch(number: int = 7) -> Epoch:
    return Epoch(NET, number, UNTIL_MS, NETWORK)


def filed(node: bytes, body: Body, place: int = 0, at: int = 5) -> Filed:
    record, _ = make_record(body, net=NET, node=node, boot=1, seq=place, at=at, new_salt=lambda: bytes(32))
    return Filed(place, 0, node, record, record.encode())


def enrolled(node: int, account: int) -> NodeEnrolled:
    text = binding_text(NET, NODES[node], ACCOUNTS[account])
    return NodeEnrolled(account=ACCOUNTS[account], account_signature=sign_text(KEYS[account], text))


def lease(number: int) -> bytes:
    return number.to_bytes(16, "big")


def settled(number: int, node: int, account: int, **changed: Any) -> LeaseSettled:
    given: dict[str, Any] = {
        "vertical": "compute",
        "resources": Resources(cpu_milli=1000, memory_mib=128),
        "price_microusd_per_hour": 3_600_000,
        "spot": False,
        "checks": False,
        "window": 0,
        "charged_ms": 1000,
        "moved": [Moved(credit=2, income=900, fee=80, reserve=20)],
        "final": True,
        "ok": True,
        "caused_by": "nobody",
    }
    return LeaseSettled(lease=lease(number), node=NODES[node], payee=ACCOUNTS[account], **(given | changed))


def finished(number: int, used_ms: int = 1000) -> list[Body]:
    """What a node says of a lease that went well."""
    return [
        LeaseAccepted(lease=lease(number)),
        UsageReceipt(lease=lease(number), window=0, used_ms=used_ms, final=True, ok=True),
    ]
