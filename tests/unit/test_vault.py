"""Secret values: locked at rest, and opened by the one node that a lease of their job runs on."""

from __future__ import annotations

import msgspec
import pytest
from nacl.exceptions import CryptoError

from fallow.agent.identity import NodeKey
from fallow.domain.calls.jobs import Submit
from fallow.domain.calls.leases import LeaseSecrets
from fallow.domain.errors import NotAllowed
from fallow.domain.leases import Lease
from fallow.domain.orders import Order
from fallow.domain.resources import Resources
from fallow.services.market.vault import Vault

NODE, OTHER = NodeKey(bytes(32)), NodeKey(b"1" * 32)
VALUES = {"API_KEY": "hush hush", "EMPTY": ""}


def lease_of(job: str, node: bytes = NODE.node, number: int = 1) -> Lease:
    return Lease(
        id=number.to_bytes(16, "big"),
        job=job,
        item=0,
        payer=bytes(20),
        payee=bytes(20),
        node=node,
        boot=1,
        resources=Resources(cpu_milli=1, memory_mib=1),
        price_microusd_per_hour=1,
        price_version=1,
        window_ms=1000,
        time_limit_ms=1000,
        proposed_at=0,
        answer_by=0,
    )


def test_only_the_leases_node_opens_them() -> None:
    vault = Vault(bytes(32))
    box = vault.seal(vault.lock("job", VALUES), lease_of("job"))
    opened = msgspec.msgpack.decode(NODE.unseal(box), type=LeaseSecrets)
    assert (opened.lease, opened.values) == (f"{1:032x}", VALUES)
    with pytest.raises(NotAllowed):
        OTHER.unseal(box)
    with pytest.raises(NotAllowed):
        NODE.unseal(box[:-1] + bytes([box[-1] ^ 1]))


def test_nothing_is_readable_at_rest_nor_on_the_way() -> None:
    vault = Vault(bytes(32))
    locked = vault.lock("job", VALUES)
    assert b"hush" not in locked + vault.seal(locked, lease_of("job"))
    assert locked != vault.lock("job", VALUES)


def test_a_row_under_another_job_or_key_does_not_open() -> None:
    vault = Vault(bytes(32))
    locked = vault.lock("job", VALUES)
    with pytest.raises(LookupError):
        vault.seal(locked, lease_of("other"))
    with pytest.raises(CryptoError):
        Vault(b"1" * 32).seal(locked, lease_of("job"))
    with pytest.raises(CryptoError):
        vault.seal(locked[:-1] + bytes([locked[-1] ^ 1]), lease_of("job"))


def test_values_are_not_shown_when_a_request_is() -> None:
    request = Submit(account="0x", order=Order(id="0" * 32, vertical="compute", work={}), secrets=VALUES)
    assert "hush" not in f"{request} {LeaseSecrets(lease='', values=VALUES)}"
