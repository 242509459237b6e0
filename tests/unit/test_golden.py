"""The bytes of everything that is signed, hashed or named, and the form of every message, stay what they are."""

from __future__ import annotations

import msgspec
import pytest

from fallow.domain.batches import Promise, open_batch
from fallow.domain.facts import CORE_FACTS
from fallow.domain.orders import Order
from fallow.domain.records import Record
from fallow.domain.tickets import Ticket, proven
from tests.golden_cases import (
    BATCHED,
    BODIES,
    NET,
    NETWORK_KEY,
    NODE,
    ORDER,
    golden_bytes,
    promise,
    records,
    schemas,
    stored,
    ticket,
)

BYTES, SCHEMAS = stored("bytes"), stored("schemas")
BYTES_CHANGED = (
    "The bytes of {} are not what they were: what is signed already could no longer be checked, or what is sent again "
    "would count twice. Undo it, or make it a new version beside the old one (a new class and number, a new tag), and "
    "then run tools/write_golden.py."
)
SCHEMA_CHANGED = (
    "The form of {} is not what it was. The network serves agents that are one version older: a record's body never "
    "changes (make a new version with a class of its own), a message only gains fields that have a default. If that "
    "is so, run tools/write_golden.py --changed."
)
NEW = "{} is new: run tools/write_golden.py, and keep what it writes."


@pytest.mark.parametrize("name", sorted(BYTES.keys() | golden_bytes().keys()))
def test_bytes(name: str) -> None:
    assert name in BYTES, NEW.format(name)
    assert golden_bytes().get(name) == BYTES[name], BYTES_CHANGED.format(name)


@pytest.mark.parametrize("name", sorted(SCHEMAS.keys() | schemas().keys()))
def test_schemas(name: str) -> None:
    assert name in SCHEMAS, NEW.format(name)
    assert schemas().get(name) == SCHEMAS[name], SCHEMA_CHANGED.format(name)


def test_every_kind_of_record_is_kept() -> None:
    assert {type(body) for body in BODIES} == set(CORE_FACTS), "Add the new kind to BODIES in tests/golden_cases.py."
    assert {f"record {kind.kind}/{kind.version}" for kind in CORE_FACTS} <= BYTES.keys()


def test_old_bytes_are_read() -> None:
    """Not only written the same: what lies in archives opens."""
    batch = open_batch(bytes.fromhex(BYTES["batch"]), net=NET)
    assert list(batch.records) == records()[:BATCHED]
    for record, body in zip(batch.records, BODIES[:BATCHED], strict=True):
        public = msgspec.structs.replace(body, **dict.fromkeys(type(body).private, ""))
        assert record.read(type(body)) == public
        assert Record.decode(bytes.fromhex(BYTES[f"record {record.kind}/{record.v}"])) == record
    network = bytes(NETWORK_KEY.verify_key)
    assert Promise.open(bytes.fromhex(BYTES["promise"]), network) == promise()
    sealed = bytes.fromhex(BYTES["ticket"])
    assert Ticket.open(sealed, network) == ticket()
    assert proven(sealed, NODE, bytes.fromhex(BYTES["ticket proof"]))
    assert msgspec.json.decode(bytes.fromhex(BYTES["order as JSON"]), type=Order) == ORDER
