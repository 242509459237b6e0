"""The provider's side of a vertical."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from fallow.domain.errors import NotFound, Unavailable
from fallow.domain.records import Body
from fallow.domain.signing import Sign
from fallow.ports.clock import Clock
from fallow.ports.streams import Stream
from fallow.ports.vertical.capacity import Effort, Exercise
from fallow.ports.vertical.work import Assignment, Finished


class Probe(NamedTuple):
    """What works on this machine (attributes for offers), and for what does not, why (name to sentence)."""

    attributes: Mapping[str, str]
    missing: Mapping[str, str]


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
