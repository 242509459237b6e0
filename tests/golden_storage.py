"""Two epochs of storage whose files are kept in tests/golden: what its released policy makes of them for ever."""

from __future__ import annotations

from fallow.domain.epochs.manifest import MANIFEST
from fallow.domain.merkle import merkle_root
from fallow.domain.network_facts import (
    Earned,
    LendingForfeited,
    LendingReturned,
    LendingUsed,
    NodeLendingReturned,
    SubscriptionSettled,
    Tariffed,
)
from fallow.domain.records import Body
from fallow.verticals.storage.core.tariff import EGRESS, REPAIRED, STORED, TARIFF
from tests.epoch_files import EpochFiles
from tests.epoch_world import ACCOUNTS, NODES, enrolled
from tests.golden_epoch import FIRST, Member, Network

HOUR = 480_000
STRANGER = b"s" * 20
GIGABYTE = 10**9


def used(node: int, owner: int, window: int, begins: int, ends: int, **more: int) -> LendingUsed:
    """What a node was used for in an hour; its orders lie in its records from one number to another."""
    orders = ends - begins if more.get(EGRESS) or more.get(REPAIRED) else 0
    return LendingUsed(
        vertical="storage",
        node=NODES[node],
        payee=ACCOUNTS[owner],
        window=HOUR + window,
        until_ms=(HOUR + window) * 3_600_000,
        used={STORED: 1000 * GIGABYTE * (node + 1), **more},
        orders=orders,
        root=bytes(32) if orders else merkle_root([]),
        begins=[1, begins],
        ends=[1, ends],
    )


def settled(window: int, income: dict[str, int], payees: tuple[bytes, ...]) -> SubscriptionSettled:
    """A window of a subscription; each payee has earned a little less than the one before."""
    before, after = ((10**18 * number).to_bytes(32) for number in (window, window + 1))
    return SubscriptionSettled(
        vertical="storage",
        subscription=bytes(16),
        window=window,
        part=0,
        from_ms=window,
        until_ms=window + 1,
        tariff=TARIFF,
        earned=[
            Earned(
                payee=payee,
                used=[Tariffed(meter=STORED, before=before, after=after)],
                income={credit: amount - place for credit, amount in income.items()},
            )
            for place, payee in enumerate(payees)
        ],
        fee={credit: amount // 10 for credit, amount in income.items()},
        reserve={credit: amount // 50 for credit, amount in income.items()},
    )


def golden_storage() -> dict[str, str]:
    """The files of both epochs, in hex, by number and name: two nodes of one account, one of another, a stranger."""
    network, members = Network(), [Member(number) for number in range(3)]
    day: list[Body] = [
        used(0, 0, 1, 5, 9, **{EGRESS: 40 * GIGABYTE}),
        used(1, 0, 1, 0, 0),
        used(2, 2, 1, 2, 3, **{EGRESS: 7, REPAIRED: 70 * GIGABYTE}),
        settled(0, {"1": 1_000_003, "2": 2_000_003, "3": 500}, (ACCOUNTS[0], ACCOUNTS[2], STRANGER)),
        used(0, 0, 2, 9, 12, **{EGRESS: GIGABYTE}),
        used(1, 2, 2, 0, 0),  # whose node that is says another account; the network's word counts
    ]
    wrong: list[Body] = [
        used(0, 0, 2, 9, 12, **{EGRESS: GIGABYTE}),
        used(2, 2, 2, 2, 3, **{EGRESS: GIGABYTE}),
        used(2, 2, 3, 3, 3, **{EGRESS: GIGABYTE}),
        used(2, 2, 4, 3, 3, unknown=5),
    ]
    next_day: list[Body] = [
        settled(1, {"1": 700_000, "2": 900_001}, (ACCOUNTS[0], ACCOUNTS[2], STRANGER)),
        used(0, 0, 26, 12, 12),
        NodeLendingReturned(vertical="storage", node=NODES[0], account=ACCOUNTS[0], receipt=b"r", last=False),
        LendingForfeited(vertical="storage", node=NODES[2], code="storage.audits_failed", evidence=[bytes(32)]),
        LendingReturned(vertical="storage", node=NODES[0], account=STRANGER, receipt=b"r"),
    ]
    forged = [LendingForfeited(vertical="storage", node=NODES[0], code="storage.away", evidence=[]), day[0]]
    joined = [member.batch(enrolled(number, [0, 0, 2][number])) for number, member in enumerate(members)]
    files: dict[str, str] = {}
    for number, batches in (
        (FIRST, [*joined, network.batch(*day), network.batch(*wrong)]),
        (FIRST + 1, [network.batch(*next_day), members[1].batch(*forged)]),
    ):
        made = EpochFiles(number, batches)
        files |= {f"{number}/{name}": bytes(data).hex() for name, data in made.files.items()}
        files[f"{number}/{MANIFEST}"] = made.manifest.encode().hex()
    return files
