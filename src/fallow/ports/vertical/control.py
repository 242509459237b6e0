"""The network's side of a vertical."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol

from fallow.domain.fees import Fees
from fallow.domain.gateway_facts import GatewayVouched
from fallow.domain.orders import Tolerance
from fallow.domain.prices import Offer
from fallow.domain.signing import Sign
from fallow.domain.streams import DirectAddress
from fallow.domain.verification import Compared
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.decisions import DecisionStore
from fallow.ports.dialling import Dial
from fallow.ports.ingest_store import IngestStore
from fallow.ports.measuring import Watch, unwatched
from fallow.ports.registry_store import RegistryStore
from fallow.ports.streams import Link


class Comparer(Protocol):
    """Compares results by a buyer's tolerance, on the network's side."""

    async def compare(self, owner: str, tolerance: Tolerance, results: Sequence[str]) -> Compared:
        """Say which of an account's results (SHA-256 in hex of outcome documents) are near each other.

        A result that is missing or malformed is near nothing. The same question has the same answer.

        Raises:
            FallowError: it cannot be said now; asking again is right.
        """
        ...


UNREADABLE_ANSWER: Final = "vertical.answer"


class Ask(Protocol):
    """Asks the worker of this vertical on a node."""

    async def __call__(self, node: bytes, question: bytes, *, timeout_s: float = 10.0) -> bytes:
        """Return what `Worker.answer` answers.

        Raises:
            FallowError: as the worker raised it; Unavailable where the node does not answer, InvalidInput
                (`UNREADABLE_ANSWER`) where what it answers makes no sense.
        """
        ...


class Hosted(NamedTuple):
    """The network's own gateways of a vertical: the public `key` by which they sign, and who stands for that.

    Nobody does where `vouched` is None. With less than `stake_min` units of the token at stake with him they are given
    nothing to sign for. `stake_of` tells how much is at stake with an operator.
    """

    key: bytes
    stake_of: Callable[[bytes], Awaitable[int]]
    vouched: GatewayVouched | None = None
    stake_min: int = 0


class ControlGround(NamedTuple):
    """What the network's side of a vertical stands on, in a process of its core.

    `sign` signs as the network, whose public key is `network_key`; `secret` is 32 bytes that this vertical alone gets
    and that stay the same. `ask` asks its workers, and `told` hears what they tell (node and bytes), as `Worker.tell`
    says it; both go over the bus. Tables lie in a schema of the vertical's own name (`Vertical.migrations`).
    `decisions` takes what the network itself decides, for the archive.
    `log` is where nodes' records are read in the order of ingest. `relay` opens a link to the network's relay, `direct`
    one to a node that can be dialled itself. `watch` has numbers told for `/metrics` (`fallow.domain.metrics`), whose
    names begin with the vertical's. `offers` are what others ask for the same. `fees` are what the network keeps of
    what buyers pay, at any time: they change, so whoever makes this says whose they are.
    """

    net: str
    network_key: bytes
    secret: bytes
    sign: Sign
    clock: Clock
    bus: Bus
    database: Database
    registry: RegistryStore
    log: IngestStore
    decisions: DecisionStore
    ask: Ask
    told: Callable[[], AbstractAsyncContextManager[AsyncIterator[tuple[bytes, bytes]]]]
    relay: Dial
    direct: Callable[[DirectAddress, bytes], AbstractAsyncContextManager[Link]]
    hosted: Hosted
    fees: Fees
    watch: Watch = unwatched
    offers: Sequence[Offer] = ()
