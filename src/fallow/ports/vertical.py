"""The plugin API of a kind of infrastructure. Entry point group: `fallow.verticals`, each value a `Vertical`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from fallow.domain.billing import FeePolicy
from fallow.domain.epochs.metering import Metering, Recount
from fallow.domain.epochs.reading import Place
from fallow.domain.errors import InvalidInput, NotFound, Unavailable
from fallow.domain.orders import Tolerance
from fallow.domain.prices import Offer
from fallow.domain.records import Body
from fallow.domain.resources import Resources
from fallow.domain.signing import Sign
from fallow.domain.streams import DirectAddress, TerminalSize
from fallow.domain.subscriptions import Tariff
from fallow.domain.verification import Compared
from fallow.ports.blobs import Blobs
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.decisions import DecisionStore
from fallow.ports.dialling import Dial
from fallow.ports.ingest_store import IngestStore
from fallow.ports.measuring import Watch, unwatched
from fallow.ports.registry_store import RegistryStore
from fallow.ports.streams import Link, Stream


class WorkNeeds(NamedTuple):
    """What a checked piece of work asks of the network: blobs to read (SHA-256 hex) and attributes of the node.

    `compares` says that every honest node must give the same result, byte for byte, so that nodes can be checked by
    having another one do the same. `checkpoints` says that its worker saves them and goes on from them,
    `secrets` that it can hand secret values to the program, `near` that its results can be compared by a tolerance.
    `program` names what is run, whatever its arguments and inputs are: by it the network sees whether a program gives
    the same on machines of one class.
    `fetched` names what a node gets elsewhere than from the network and keeps for a while: images.
    """

    blobs: frozenset[str]
    attributes: Mapping[str, str]
    write_bytes_max: int
    compares: bool
    checkpoints: bool = False
    secrets: bool = False
    near: bool = False
    program: str = ""
    fetched: frozenset[str] = frozenset()


class LeaseBlobs(Protocol):
    """The blobs of one lease, seen from the node that works on it."""

    async def fetch(self, sha256: str, to: Path) -> None:
        """Write an input of the lease to `to`, which holds exactly the bytes with that hash afterwards.

        Raises:
            Unavailable: it could not be had now.
            NotFound, NotAllowed: it is not there for this lease.
            TooMuch: it is larger than the lease's share of the disk.
        """
        ...

    async def store(self, path: Path) -> str:
        """Store a file as an output of the lease and return its SHA-256 (hex)."""
        ...


Save = Callable[[Path, int], Awaitable[None]]
"""Keeps an archive as the lease's checkpoint, with the milliseconds from the program's start that it holds.

Raises:
    FallowError: it cannot be kept now; the checkpoint before it still counts.
"""


class Exit(NamedTuple):
    """How a command ended: as shells count, 127 where there is no such program, 128 + the number of a signal.

    `said` belongs at the end of its stderr.
    """

    code: int
    said: bytes = b""


class Command(Protocol):
    """A command that runs in a sandbox. With a terminal it has no stderr of its own."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader | None

    def resize(self, size: TerminalSize) -> None:
        """Give its terminal another size; nothing happens when it has none."""
        ...

    async def wait(self) -> Exit:
        """Return how it ended; nothing that it started is left then."""
        ...


class Inside(Protocol):
    """The inside of a running sandbox, as far as its buyer may reach into it."""

    def command(self, words: Sequence[str], size: TerminalSize | None) -> AbstractAsyncContextManager[Command]:
        """Run a command there, under the very limits of the job; leaving the context ends it and all that it started.

        Raises:
            NotAllowed: this machine cannot bound it (`exec.unbounded`).
            Unavailable: the sandbox cannot be entered.
        """
        ...

    async def connect(self, port: int) -> socket.socket:
        """Connect to a TCP port that the program listens on, on its own 127.0.0.1, and never to one of the machine's.

        Raises:
            NotFound: nothing listens there (`stream.port`).
            Unavailable: the sandbox cannot be entered.
        """
        ...


Opened = Callable[[Inside | None], None]
"""Takes the inside of a sandbox when its program has begun, and None before it is gone."""


def closed(_: Inside | None) -> None:
    """Let nobody in."""


class Line(Protocol):
    """The owner's line, for what a worker fetches by itself: the network's blobs are counted where they come in."""

    def has_room(self, size: int) -> bool:
        """Whether the owner allows so many bytes more in this month."""
        ...

    def count(self, size: int) -> None:
        """Take note of bytes that have come."""
        ...


class AnyLine:
    """A line that nobody has bounded."""

    def has_room(self, _size: int) -> bool:
        """See the port."""
        return True

    def count(self, _size: int) -> None:
        """See the port."""


ANY_LINE: Final[Line] = AnyLine()


class Assignment(NamedTuple):
    """One lease's work on a node. `workspace` is empty and belongs to this lease alone; `cancel` asks it to end.

    The worker sets `started` when the buyer's program starts: from there on its windows are counted. `resume` is the
    checkpoint (SHA-256 in hex, fetched like an input) of an earlier lease that the program goes on from; where it is
    not there or broken, the worker finishes with CHECKPOINT_UNUSABLE, which is nobody's doing. `save` is None where
    this lease keeps no checkpoints. `opened` is told of the inside of a sandbox that has one. `secrets` are for the
    program alone: they go into no file that outlives it, no log and no command line. Work that runs `until_stopped`
    ends well with `cancel`: what it leaves is wanted. `gpus` are the graphics processors (NVML's UUIDs) that are this
    lease's alone. `line` is what the worker asks before it fetches something by itself, and tells what has come.
    """

    work: Mapping[str, Any]
    item: str | None
    seed: bytes
    resources: Resources
    time_limit_s: int
    workspace: Path
    blobs: LeaseBlobs
    cancel: asyncio.Event
    started: asyncio.Event
    resume: str | None = None
    save: Save | None = None
    until_stopped: bool = False
    opened: Opened = closed
    gpus: tuple[str, ...] = ()
    secrets: Mapping[str, str] = MappingProxyType({})
    line: Line = ANY_LINE


class Finished(NamedTuple):
    """How an assignment ended.

    `used_ms` counts from the start of the buyer's program to its end; a failed start has 0. `result` is the SHA-256
    (hex) of the outcome document, stored as a blob, when there is one. `caused_by`: buyer, provider, owner, nobody.
    """

    ok: bool
    reason: str
    caused_by: str
    used_ms: int
    result: str | None
    measures: Mapping[str, int]


class Probe(NamedTuple):
    """What works on this machine (attributes for offers), and for what does not, why (name to sentence)."""

    attributes: Mapping[str, str]
    missing: Mapping[str, str]


class Exercise(NamedTuple):
    """Work for a roll call: with `cpu_milli` for `work_ms`, on a `challenge` (32 bytes) that nobody could foresee.

    Each node has steps of its own. `cancel` ends it at once: whoever needs the machine comes first.
    """

    challenge: bytes
    node: bytes
    cpu_milli: int
    work_ms: int
    cancel: asyncio.Event


class Effort(Protocol):
    """What a node did in an exercise: so many units, and bytes that bind it to them."""

    units: int
    commitment: bytes

    def show(self, wanted: Sequence[int]) -> bytes:
        """Return these units with what shows that they are among those done."""
        ...


class Claim(NamedTuple):
    """What a node said of its effort."""

    challenge: bytes
    node: bytes
    units: int
    commitment: bytes


class Capacity(Protocol):
    """How the network checks an effort. Pure."""

    def wanted(self, units: int, chance: bytes) -> list[int]:
        """Draw which units a node shows."""
        ...

    def holds(self, claim: Claim, wanted: Sequence[int], shown: bytes) -> bool:
        """Whether what was shown is what the node bound itself to, and is right. Takes a while; for a thread."""
        ...


Say = Callable[[Body], Awaitable[None]]
"""Signs a record as the node and sees to it that the network gets it; it is durable when this returns."""


Closed = Callable[[], Sequence[str]]
"""Says why an owner wants nothing new on his machine now: codes (`owner.paused`), the strongest first, or none."""


def never_closed() -> Sequence[str]:
    """Say that the owner takes everything."""
    return ()


class WorkerGround(NamedTuple):
    """What a provider's side stands on.

    `cache` is a folder that it may keep things in, and that may be deleted at any time; `kept` one whose loss would
    cost the owner something. `lends` is what he lends to this vertical beside leases, in his own words, checked by
    `Vertical.check_lending`; empty: nothing. `net`, `node`, `sign` and `network_key` are those of the node.
    `closed` is what a worker asks that serves beside leases: what the agent does with them, it does itself.
    """

    cache: Path
    kept: Path
    clock: Clock
    net: str
    node: bytes
    sign: Sign
    network_key: bytes
    lends: str = ""
    closed: Closed = never_closed


class Lent(NamedTuple):
    """How it goes with what an owner lends: a sentence for him, and one on what is wrong, if something is."""

    says: str
    trouble: str = ""


class Overview(msgspec.Struct, frozen=True):
    """What an owner may know of what he lends: facts for people, each with its name; all for programs, as builtins."""

    facts: list[tuple[str, str]]
    details: dict[str, Any]


class HandBack(msgspec.Struct, frozen=True):
    """How far what an owner lends has been handed back: a sentence, and things done of those that are known.

    `over`: he may do with it what he likes. `details` are for programs, as builtins.
    """

    says: str
    done: int
    total: int
    over: bool = False
    details: dict[str, Any] = {}


class Worker(Protocol):
    """The provider's side. Who derives from it need not say what he does not do."""

    async def probe(self) -> Probe:
        """Find out, by trying, what this machine can run."""
        ...

    async def run(self, assignment: Assignment) -> Finished:
        """Do the work. Raises nothing for what the buyer's program does; errors of this machine end in `Finished`."""
        return Finished(ok=False, reason="agent.no_leases", caused_by="nobody", used_ms=0, result=None, measures={})

    async def exert(self, exercise: Exercise) -> Effort:
        """Work as hard as the exercise says.

        Raises:
            Unavailable: it was cancelled, or cannot be done here.
        """
        raise Unavailable("agent.no_capacity", "This machine has no capacity to show.")

    async def report(self, say: Say) -> None:
        """Say what this machine measures by itself, without a lease, until cancelled; returns where that is nothing."""
        return  # without a statement a method of a protocol is abstract for type checkers

    async def serve(self, stream: Stream, request: bytes, client: bytes) -> None:
        """Serve a stream that a holder of a ticket of the network for this vertical has opened, to its end.

        `client` names that holder (`StreamTicket.account`); the network's signature on the ticket has been checked.

        Raises:
            FallowError: the stream is given up with it.
        """
        raise NotFound("stream.no_service", "This machine serves nothing of that kind beside leases.")

    async def tell(self) -> bytes:
        """Return what the network's side of this vertical should know every few seconds; empty: nothing."""
        return b""

    async def answer(self, question: bytes) -> bytes:
        """Answer a question of the network's side of this vertical.

        Raises:
            FallowError: it is told so.
        """
        raise NotFound("agent.no_answer", "This machine has nothing to say to that.")

    async def lent(self) -> Lent | None:
        """Tell the owner how it goes with what he lends; None: he lends nothing."""
        return None

    async def overview(self) -> Overview | None:
        """Tell the owner all that there is to know of what he lends; None: he lends nothing."""
        return None

    async def hand_back(self) -> HandBack:
        """Begin to hand back what the owner lends, so that nothing of others' is lost; or say how far that is.

        Raises:
            NotFound: he lends nothing that is handed back (`agent.not_lent`).
            Unavailable: it cannot be begun now.
        """
        raise NotFound("agent.not_lent", "Nothing is lent here that has to be handed back.")

    async def erase(self, *, for_good: bool) -> None:
        """Remove what is kept outside of the agent's folder, when the machine leaves its network.

        `for_good`: its key goes, too, so that nothing that was entrusted to this node can be of use any more.

        Raises:
            Unavailable: something cannot be ended.
        """
        return


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


class ControlGround(NamedTuple):
    """What the network's side of a vertical stands on, in a process of its core.

    `sign` signs as the network, whose public key is `network_key`; `secret` is 32 bytes that this vertical alone gets
    and that stay the same. `ask` asks its workers, and `told` hears what they tell (node and bytes), as `Worker.tell`
    says it; both go over the bus. Tables lie in a schema of the vertical's own name (`Vertical.migrations`).
    `decisions` takes what the network itself decides, for the archive.
    `log` is where nodes' records are read in the order of ingest. `relay` opens a link to the network's relay, `direct`
    one to a node that can be dialled itself. `watch` has numbers told for `/metrics` (`fallow.domain.metrics`), whose
    names begin with the vertical's. `offers` are what others ask for the same. `fee_ppm` is what the network keeps of
    what buyers pay, in millionths.
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
    watch: Watch = unwatched
    offers: Sequence[Offer] = ()
    fee_ppm: int = FeePolicy().fee_ppm


class GatewayGround(NamedTuple):
    """What a buyers' gateway of a vertical stands on: a process of its own without the database.

    `secret` is 32 bytes that gateways of this vertical alone get and that stay the same. `relay` opens a link to the
    network's relay, `direct` one to a node that can be dialled itself. `url` is where buyers reach this gateway. The
    network's console is at the same host, by the same scheme, at `console_port`; 0: there is none.
    """

    net: str
    network_key: bytes
    secret: bytes
    url: str
    clock: Clock
    bus: Bus
    relay: Dial
    direct: Callable[[DirectAddress, bytes], AbstractAsyncContextManager[Link]]
    random_bytes: Callable[[int], bytes]
    console_port: int = 0


class SignedRequest(NamedTuple):
    """A request to a vertical's gateway that is signed in its address, so that whoever has that may send it.

    `path` and `query` are plain text, not encoded. It counts for `valid_s` seconds.
    """

    method: str
    path: str
    query: Mapping[str, str]
    valid_s: int


class Signer(NamedTuple):
    """What the holder of an API key signs with: the public part of the key, and a secret that follows from it."""

    access_key: str
    secret: str


Asgi = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application."""


class Vertical(Protocol):
    """A kind of infrastructure. Who derives from it need not say what it does not have."""

    name: str
    metering: Metering | None
    """What its records are worth in an epoch; None: nothing, it is not paid by the network."""
    capacity: Capacity | None = None
    """How its nodes show in roll calls what they have; None: they cannot."""

    tariff: Tariff | None = None
    """What its shared service costs by the meter; None: it is bought otherwise."""
    migrations: Path | None = None
    """The folder of its schema's migrations, for what its network's side keeps; None: it keeps nothing."""
    gateways: tuple[str, ...] = ()
    """Roles by which buyers reach it in its field's own protocol, each an HTTP server with a process of its own."""
    calls: Mapping[str, type[msgspec.Struct]] = MappingProxyType({})
    """What buyers may ask its network's side by HTTP (`/v1/verticals/NAME/CALL`), by the end of its subject.

    Each has a field `account`, where the control API puts the asking key's account; "" is kept for gateways.
    """
    provider_calls: Mapping[str, type[msgspec.Struct]] = MappingProxyType({})
    """The same for accounts that provide (`/v1/account/verticals/NAME/CALL`): they look on what is theirs."""
    operator_calls: Mapping[str, type[msgspec.Struct]] = MappingProxyType({})
    """The same for the network's operators (`/v1/operator/verticals/NAME/CALL`).

    Each has a field `by`, too, where the control API puts who asks: what it changes goes into the log of actions.
    """
    shown: frozenset[str] = frozenset()
    """Names of those of its measures (`ControlGround.watch`) that everybody may see, on its page of the explorer."""
    offer: Offer | None = None
    """What its shared service costs here, in the terms of the price file, beside which pages show it."""
    tells_alerts: bool = False
    """Whether its side answers `ALERTS` (`fallow.domain.calls`), too: what its owners should look at."""
    takes_grants: bool = False
    """Whether its side answers `GRANTED`, too: calls of those who show a grant, which it checks itself."""

    def check_work(self, work: Mapping[str, Any], item: str | None) -> WorkNeeds:
        """Check an order's work at the door; `item` is the input of a map, if it is one.

        Raises:
            InvalidInput: it is malformed, or nothing is ordered of this kind.
        """
        raise InvalidInput("order.none", f"Nothing is ordered of {self.name}.")

    def hand_back_text(self, lends: str) -> str:
        """What an owner agrees to who hands back what he lends."""
        raise NotFound("agent.not_lent", f"Nothing that is lent to {self.name} has to be handed back.")

    def check_lending(self, lends: str) -> str:
        """Check what an owner wants to lend beside leases, on his machine; returns what he thereby agrees to.

        Raises:
            InvalidInput: it is malformed, or this vertical takes nothing.
        """
        raise InvalidInput("agent.lends", f"Nothing is lent to {self.name} beside leases.")

    def worker(self, ground: WorkerGround) -> Worker:
        """Make the provider's side."""
        ...

    def control(self, ground: ControlGround) -> AbstractAsyncContextManager[None] | None:
        """Make the network's side, which runs while the context is open; None: there is none."""
        return None

    def gateway(self, role: str, ground: GatewayGround) -> AbstractAsyncContextManager[Asgi]:
        """Make a gateway, which runs while the context is open. `role` is one of `gateways`."""
        raise NotFound("serve.role", f"{self.name} has no gateway {role}.")

    def link(self, role: str, url: str, signer: Signer, request: SignedRequest, at_ms: int) -> str:
        """Sign a request to the gateway at `url`, as it counts from `at_ms` on, and return its address.

        Raises:
            NotFound: this gateway takes no signed addresses (`link.none`).
        """
        raise NotFound("link.none", f"The gateway {role} takes no signed addresses.")

    def recount(
        self, net: str, network_key: bytes, since_ms: int, places: Mapping[bytes, Place] | None = None
    ) -> Recount | None:
        """Make what adds up again, from records since a time (0: from all), what its side tells in sums; None: nothing.

        `network_key` is that of the network, `net` its id. Where `places` are given, each node's records were read from
        there on, and those of a node that has none there from its first.
        """
        return None

    def comparer(self, blobs: Blobs, folder: Path) -> Comparer | None:
        """Make what compares results by a tolerance, if any are; `folder` is one that it may keep things in."""
        return None


def takes_orders(vertical: Vertical) -> bool:
    """Whether it may run programs of buyers: a vertical that says nothing of `check_work` refuses every order."""
    return getattr(type(vertical), "check_work", None) is not Vertical.check_work
