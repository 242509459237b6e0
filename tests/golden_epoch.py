"""Two epochs whose files are kept in tests/golden: a released policy makes the same of them for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

from nacl.signing import SigningKey

from fallow.domain.chain_facts import ChainBurned, ChainStaked
from fallow.domain.epochs.closing import close
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.manifest import MANIFEST, Manifest
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.reading import checked_records
from fallow.domain.epochs.rules import Rules
from fallow.domain.facts import (
    AccountPayout,
    CreditWithdrawn,
    LeaseAccepted,
    LeaseCheckpoint,
    Moved,
    NodeShown,
    UsageReceipt,
)
from fallow.domain.payees import payout_text
from fallow.domain.price_facts import PriceReported, price_text
from fallow.domain.records import Body
from fallow.domain.stake_facts import StakeTake, take_text
from fallow.domain.wallets import address_of, sign_text
from tests.epoch_files import NET, NETWORK, NETWORK_KEY, EpochFiles, Node
from tests.epoch_world import (
    ACCOUNTS,
    BURNING,
    BY_ISSUANCE,
    HOLDING,
    KEYS,
    NODES,
    UNTIL_MS,
    VESTING,
    WORK_ONLY,
    YEARLY,
    enrolled,
    finished,
    lease,
    settled,
)
from tests.golden_happened import on_first_day, on_second_day
from tests.golden_network import DECISION_BODIES, NETWORK_BODIES

FIRST = 20_000
DAY_MS = 86_400_000
SAID_MS = UNTIL_MS + FIRST * DAY_MS - 1000
"""When the network decides, on the first day."""

ELSEWHERE = b"e" * 20
NEXT_MS = UNTIL_MS + (FIRST + 1) * DAY_MS
"""When the second epoch ends."""
RULE_SETS = (Rules(), WORK_ONLY, BY_ISSUANCE, YEARLY, BURNING, HOLDING, VESTING)


class Network(Node):
    """The network as one more node."""

    def __init__(self) -> None:
        super().__init__(0)
        self.key, self.id, self.boot = NETWORK, NETWORK_KEY, 0


class Member(Node):
    """A node with the key that `epoch_world` knows it by."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.key = SigningKey(bytes([number + 1]) * 32)
        self.id = bytes(self.key.verify_key)


def golden_epoch() -> dict[str, str]:
    """The files of both epochs, in hex, by number and name."""
    network, members = Network(), [Member(number) for number in range(3)]
    day = [
        *(member.batch(enrolled(number, number), *_work(number)) for number, member in enumerate(members)),
        network.batch(*_first_day(), at=SAID_MS),
        network.batch(*on_first_day(SAID_MS + 500), at=SAID_MS + 500),
        members[0].batch(UsageReceipt(lease=lease(10), window=1, used_ms=400, final=True, ok=True)),
    ]
    next_day = [
        members[2].batch(*finished(20)),
        network.batch(*_second_day(), *_on_the_chain(), at=NEXT_MS - 1000),
        network.batch(*NETWORK_BODIES, *DECISION_BODIES),
        members[1].batch(*DECISION_BODIES[:1]),  # forged: no node's word counts for a subscription
        network.batch(*on_second_day(NEXT_MS - 500), at=NEXT_MS - 500),
    ]
    files: dict[str, str] = {}
    for number, batches in ((FIRST, day), (FIRST + 1, next_day)):
        made = EpochFiles(number, batches)
        files |= {f"{number}/{name}": bytes(data).hex() for name, data in made.files.items()}
        files[f"{number}/{MANIFEST}"] = made.manifest.encode().hex()
    return files


def replay(files: Mapping[str, str], rules: Rules, meterings: Mapping[str, Metering]) -> bytes:
    """What a version makes of both epochs: one hash over all files that follow."""
    digest, opening = hashlib.sha256(), b""
    for number in (FIRST, FIRST + 1):
        manifest = Manifest.decode(bytes.fromhex(files[f"{number}/{MANIFEST}"]))
        records = checked_records(manifest, _reader(files, number), NETWORK_KEY)
        epoch = Epoch(NET, number, UNTIL_MS + number * DAY_MS, NETWORK_KEY)
        closing = close(opening, epoch, records, rules, meterings)
        for name, data in sorted(closing.files.items()):
            digest.update(f"{number}/{name} {len(data)}\0".encode() + data)
        opening = closing.files["state"]
    return digest.digest()


def golden_digest(files: Mapping[str, str], meterings: Mapping[str, Metering]) -> bytes:
    """What names a version of the policies: what it makes of the golden epochs under each set of rules."""
    return hashlib.sha256(b"".join(replay(files, rules, meterings) for rules in RULE_SETS)).digest()


def _reader(files: Mapping[str, str], number: int) -> Callable[[str], Iterable[bytes]]:
    return lambda name: [bytes.fromhex(files[f"{number}/{name}"])]


def _work(number: int) -> list[Body]:
    """One lease that goes well, one that is half done by the end of the day."""
    return [
        *finished(number),
        LeaseAccepted(lease=lease(10 + number)),
        UsageReceipt(lease=lease(10 + number), window=0, used_ms=600, final=False),
        LeaseCheckpoint(lease=lease(10 + number), window=0, used_ms=550, blob=bytes(32)),
    ]


def _first_day() -> list[Body]:
    node = [bytes(SigningKey(bytes([number + 1]) * 32).verify_key) for number in range(3)]
    withdrawn = CreditWithdrawn(withdrawal=bytes(range(16)), account=ACCOUNTS[1], amount_microusd=30_000)
    word = sign_text(KEYS[0], payout_text(NET, ACCOUNTS[0], ELSEWHERE, SAID_MS // 1000))
    wrong = {"reason": "result.wrong", "caused_by": "provider", "ok": False, "charged_ms": 0, "moved": []}
    return [
        settled(0, 0, 0),
        settled(1, 1, 1, checks=True, moved=[Moved(credit=2, income=27, fee=3)]),
        settled(2, 2, 2, **wrong),
        NodeShown(node=node[0], what="confirmed", lease=lease(0)),
        NodeShown(node=node[2], what="wrong", code="result.wrong", lease=lease(2)),
        *(NodeShown(node=node[1], what="missed") for _ in range(3)),
        settled(
            10, 0, 0, charged_ms=600, moved=[Moved(credit=1, income=540, fee=48, reserve=12)], final=False, ok=False
        ),
        settled(11, 1, 1, charged_ms=601, final=False, ok=False),
        withdrawn,
        withdrawn,
        AccountPayout(account=ACCOUNTS[0], to=ELSEWHERE, signed_at_s=SAID_MS // 1000, signature=word),
    ]


def _second_day() -> list[Body]:
    lost = {"reason": "node.lost", "caused_by": "owner", "ok": False}
    return [
        settled(10, 0, 0, window=1, moved=[Moved(credit=1, income=360, fee=32, reserve=8)]),
        settled(
            11, 1, 1, charged_ms=550, moved=[Moved(credit=2, income=495, fee=44, reserve=11, made_good=45)], **lost
        ),
        settled(20, 2, 2, moved=[Moved(credit=3, income=900, fee=80, reserve=20)]),
        NodeShown(node=NODES[0], what="wrong", code="result.wrong", lease=lease(10)),
        settled(12, 2, 0, charged_ms=600, moved=[Moved(credit=3, income=540, fee=48, reserve=12)]),
        settled(0, 0, 0),
    ]


def _on_the_chain() -> list[Body]:
    """A price of three feeds, burned tokens, and delegated stake."""
    at_ms, take_ppm = NEXT_MS - 2000, 180_000
    feeds = [(key, price) for key, price in zip(KEYS, (2_900_000, 3_000_000, 3_000_000), strict=True)]
    staked = [
        ChainStaked(
            operator=ACCOUNTS[2], holder=holder, amount=stake, shares=stake, block=9, place=place, transaction=bytes(32)
        )
        for place, (holder, stake) in enumerate(
            [(ACCOUNTS[2], (3 * 10**18).to_bytes(32)), (b"d" * 20, (10**18).to_bytes(32))]
        )
    ]
    return [
        *(
            PriceReported(
                feed=address_of(key),
                price_microusd=price,
                doubt_microusd=0,
                at_ms=at_ms,
                signature=sign_text(key, price_text(NET, price, 0, at_ms)),
            )
            for key, price in feeds
        ),
        *staked,
        StakeTake(
            account=ACCOUNTS[2],
            take_ppm=take_ppm,
            at_ms=at_ms,
            signature=sign_text(KEYS[2], take_text(NET, ACCOUNTS[2], take_ppm, at_ms)),
        ),
        ChainBurned(
            sender=ACCOUNTS[0],
            account=ACCOUNTS[0],
            amount=(7 * 10**12).to_bytes(32),
            block=9,
            place=5,
            transaction=bytes(32),
        ),
    ]
