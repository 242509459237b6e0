"""Fixed inputs whose bytes are kept in tests/golden: what was once signed, hashed or named must stay what it is."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import msgspec
from nacl.signing import SigningKey

from fallow.domain import calls
from fallow.domain.batches import Promise, seal_batch
from fallow.domain.calls.base import Request
from fallow.domain.chart import NETWORK, Credit, Purpose, account_id, fund, give_back, grant, hold
from fallow.domain.delegations import Receipt, consent_message, delegation_text, order_message, receipts_message
from fallow.domain.epochs.filing import Filing
from fallow.domain.facts import (
    CORE_FACTS,
    AccountPayout,
    CreditWithdrawn,
    LeaseAccepted,
    LeaseCheckpoint,
    LeaseDeclined,
    LeaseSettled,
    Moved,
    NodeBound,
    NodeEnrolled,
    NodeShown,
    OfferMade,
    PlacedOfferMade,
    SpotOfferMade,
    UsageReceipt,
)
from fallow.domain.jobs import Item
from fallow.domain.orders import Order, Requirements
from fallow.domain.records import Body, Opening, Record, commitment, make_record
from fallow.domain.resources import Resources, Terms
from fallow.domain.rollcall import Answer
from fallow.domain.streams import DirectOffer, StreamTicket
from fallow.domain.tickets import Ticket, prove
from fallow.domain.wire.greeting import Claim, Proof
from fallow.services.market.dispatch import lease_id
from fallow.services.market.outbound import seed
from tests.golden_chain import CHAIN_BODIES, PRICE_BODIES, STAKE_TAKE
from tests.golden_network import DECISION_BODIES, GATEWAY_BODIES, LENDING_BODIES, NETWORK_BODIES

FOLDER = Path(__file__).parent / "golden"
NET = "golden"
NODE_KEY, NETWORK_KEY = SigningKey(bytes(range(32))), SigningKey(bytes(range(1, 33)))
NODE = bytes(NODE_KEY.verify_key)
LEASE = bytes(range(16))
ACCOUNT = bytes(range(20))
BODIES: tuple[Body, ...] = (
    NodeEnrolled(account=ACCOUNT, account_signature=bytes(range(65)), label="golden node"),
    OfferMade(
        offer=7,
        open=True,
        total=Resources(cpu_milli=3500, memory_mib=2048, disk_mib=10_000),
        terms=Terms(price_microusd_per_core_hour=12_000, price_microusd_per_gib_hour=1500),
        attributes={"compute.wasm": "1", "arch": "x86_64"},
        country="JP",
    ),
    LeaseAccepted(lease=LEASE),
    LeaseDeclined(lease=LEASE, reason="node.paused"),
    UsageReceipt(
        lease=LEASE,
        window=2,
        used_ms=1_234_567,
        final=True,
        ok=True,
        reason="",
        caused_by="nobody",
        result=bytes(32),
        measures={"cpu_ms": 1_200_000, "output_bytes": 1 << 40},
    ),
    LeaseCheckpoint(lease=LEASE, window=2, used_ms=7_654_321, blob=bytes(range(32))),
    NodeBound(account=ACCOUNT, account_signature=bytes(range(65)), before_s=1_800_000_000, label="golden node"),
    SpotOfferMade(
        offer=8,
        open=True,
        total=Resources(cpu_milli=3500, memory_mib=2048, disk_mib=10_000),
        terms=Terms(price_microusd_per_core_hour=12_000),
        spot=Terms(price_microusd_per_core_hour=6000),
    ),
    PlacedOfferMade(
        offer=9,
        open=True,
        total=Resources(cpu_milli=3500, memory_mib=2048, disk_mib=10_000),
        terms=Terms(price_microusd_per_core_hour=12_000),
        country="DE",
        cell="851f1d4bfffffff",
    ),
    LeaseSettled(
        vertical="compute",
        lease=LEASE,
        node=NODE,
        payee=ACCOUNT,
        payer=bytes(range(20, 40)),
        resources=Resources(cpu_milli=2000, memory_mib=1024),
        price_microusd_per_hour=24_000,
        spot=False,
        checks=False,
        window=2,
        charged_ms=8_434_567,
        moved=[Moved(credit=1, income=50_608, fee=4499, reserve=1124), Moved(credit=2, made_good=7)],
        final=True,
        ok=True,
        caused_by="nobody",
    ),
    NodeShown(node=NODE, what="wrong", code="result.wrong", lease=LEASE),
    *CHAIN_BODIES,
    CreditWithdrawn(withdrawal=LEASE, account=ACCOUNT, amount_microusd=12_500_000, payer=bytes(range(20, 40))),
    *PRICE_BODIES,
    STAKE_TAKE,
    *NETWORK_BODIES,
    AccountPayout(account=ACCOUNT, to=bytes(range(20, 40)), signed_at_s=1_700_000_000, signature=bytes(range(65))),
    *DECISION_BODIES,
    *LENDING_BODIES,
    *GATEWAY_BODIES,
)
BATCHED = 5
"""Records in the golden batch: kinds that came later are golden by themselves."""

ORDER = Order(
    id="0123456789abcdef" * 2,
    vertical="compute",
    work={"kind": "wasm", "args": ["a", 1, None, True]},
    items=["ab" * 32, "cd" * 32],
    requirements=Requirements(cpu_milli=500, countries=["JP"], attributes={"compute.wasm": "1"}),
    max_price_microusd_per_hour=1_000_000,
    budget_microusd=5_000_000,
    time_limit_s=600,
    retries=1,
    label="golden order",
)

RECEIPTS = [
    Receipt(item=item, lease=LEASE.hex(), node=NODE.hex(), result="ab" * 32, used_ms=1_234_567) for item in range(3)
]


def by_node(message: bytes) -> bytes:
    """Sign as the node."""
    return NODE_KEY.sign(message).signature


def by_network(message: bytes) -> bytes:
    """Sign as the network."""
    return NETWORK_KEY.sign(message).signature


def records() -> list[Record]:
    """One record of each kind, consecutive."""
    made = (
        make_record(body, net=NET, node=NODE, boot=3, seq=seq, at=1_700_000_000_000 + seq, new_salt=lambda: b"s" * 32)
        for seq, body in enumerate(BODIES, start=40)
    )
    return [record for record, _ in made]


def promise() -> Promise:
    """What the network answers to the batch."""
    root = hashlib.sha256(b"root").digest()
    return Promise(net=NET, epoch=19_675, node=NODE, boot=3, seq=40, count=5, root=root, at=1_700_000_000_123)


def ticket() -> Ticket:
    """What lets the node read an input."""
    return Ticket(
        net=NET,
        node=NODE,
        lease=LEASE,
        owner=ACCOUNT,
        reads=[bytes.fromhex("ab" * 32)],
        write_bytes_max=1 << 30,
        expires_at=1_700_000_600_000,
    )


def stream_ticket() -> StreamTicket:
    """What lets a buyer reach his running work."""
    return StreamTicket(net=NET, node=NODE, lease=LEASE, account=ACCOUNT, purpose="logs", expires_at=1_700_000_600_000)


def roll_answer() -> Answer:
    """What a node signs at a roll call."""
    return Answer(net=NET, call=bytes(range(32)), cpu_milli=1500, units=150, commitment=bytes(32))


def session_claim() -> Claim:
    """What a node begins a session with."""
    return Claim(net=NET, nonce=bytes(32), session=bytes(range(16)), node=True, fresh=False, received=70_000)


def session_proof() -> Proof:
    """What a node that is dialled itself answers with."""
    return Proof(net=NET, nonce=bytes(32), session=bytes(range(16)))


def direct_offer() -> DirectOffer:
    """What a node tells its relay when it can be dialled."""
    return DirectOffer(net=NET, node=NODE, port=8440, certificate="-----BEGIN CERTIFICATE-----", probe=bytes(32))


def golden_bytes() -> dict[str, str]:
    """Everything whose bytes are fixed, in hex, by name."""
    cases = {f"record {record.kind}/{record.v}": record.encode() for record in records()}
    sealed = ticket().seal(by_network)
    return {
        name: data.hex()
        for name, data in {
            **cases,
            "batch": seal_batch(records()[:BATCHED], by_node),
            "stream ticket": stream_ticket().seal(by_network),
            "roll answer": roll_answer().seal(by_node),
            "session claim": session_claim().seal(by_node),
            "session proof": session_proof().seal(by_node),
            "direct offer": direct_offer().seal(by_node),
            "promise": promise().seal(by_network),
            "ticket": sealed,
            "ticket proof": prove(sealed, by_node),
            "commitment": commitment(NET, "node.enrolled", "label", Opening(b"s" * 32, "golden node")),
            "join message": calls.nodes.join_message("fj_token", NODE.hex()),
            "lease id": lease_id(ORDER.id, Item(index=1, attempts=2)),
            "seed": seed(ORDER.id, 1),
            "delegation": delegation_text(NET, ACCOUNT, NODE, 1_700_000_600_000).encode(),
            "delegation consent": consent_message(NET, ACCOUNT, NODE),
            "signed order": order_message(NET, ACCOUNT, b"{}"),
            "buyer's receipts": receipts_message(NET, ACCOUNT, ORDER.id, RECEIPTS),
            "order as JSON": msgspec.json.encode(ORDER),
            **_epoch_files(),
            **_ledger_ids(),
        }.items()
    }


def _epoch_files() -> dict[str, bytes]:
    """The files of an epoch with one batch: others verify them with programs of their own."""
    filing = Filing(NET, 7, {"lease.accepted", "offer.made"})
    pieces = filing.add(seal_batch(records()[:BATCHED], by_node), promise().seal(by_network))
    return {**{f"epoch file {name}": data for name, data in pieces}, "epoch manifest": filing.manifest().encode()}


def _ledger_ids() -> dict[str, bytes]:
    """A transfer that is sent again after an update must have the id that it had before."""
    parts = ((int(Credit.GRANTED), 1), (int(Credit.PAID), 2))
    accounts = {
        f"ledger account {purpose.name.lower()} {credit.name.lower()}": account_id(purpose, credit, owner)
        for purpose, owner in (
            (Purpose.ISSUER, NETWORK),
            (Purpose.WALLET, ACCOUNT),
            (Purpose.EARNED, ACCOUNT),
            (Purpose.CLEARING, NETWORK),
            (Purpose.FEE, NETWORK),
            (Purpose.RESERVE, NETWORK),
        )
        for credit in Credit
    }
    transfers = {
        "grant": grant("0" * 32, ACCOUNT, 5),
        "fund": fund("0" * 32, Purpose.RESERVE, 5),
        "hold": hold(LEASE, 3, ACCOUNT, parts)[1],
        "give back": give_back(LEASE, 3, parts)[1],
    }
    return {**accounts, **{f"ledger transfer {name}": entry.id for name, entry in transfers.items()}}


def schemas() -> dict[str, Any]:
    """JSON schemas of all that crosses a process boundary and is not only shown: facts, calls, orders."""
    types = [*CORE_FACTS, *_requests(), Order]
    _, components = msgspec.json.schema_components(sorted(types, key=lambda one: one.__name__))
    return json.loads(json.dumps(components, sort_keys=True))


def _requests() -> set[type[Request]]:
    modules = [
        importlib.import_module(f"{calls.__name__}.{area.name}") for area in pkgutil.iter_modules(calls.__path__)
    ]
    named = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return {value for value in named if issubclass(value, Request)} - {Request}


def stored(name: str) -> dict[str, Any]:
    """What is kept in tests/golden."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def store(name: str, content: dict[str, Any]) -> None:
    """Keep it from now on."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
