"""One audit: a chunk is asked for, and what comes, or does not come, is an outcome."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import msgspec

from fallow.domain.errors import FallowError
from fallow.ports.clock import Clock
from fallow.ports.vertical.control import UNREADABLE_ANSWER, Ask
from fallow.verticals.storage.control.nodes import Lender
from fallow.verticals.storage.core.auditing import Asked, answer_s, fault_of
from fallow.verticals.storage.core.questions import Evidence, Prove
from fallow.verticals.storage.core.reputation import RETRIES_MAX, Outcome

WORDS_MAX: Final = 200
ANSWER_BYTES_MAX: Final = 4096
OURS_S: Final = 15.0
"""So long after an error of the bus it shows whether the network hears the node: then the error was not its own."""
SETTLED_MS: Final = 5000

SHOWN: Final = frozenset({"storage.no_piece", "storage.question", UNREADABLE_ANSWER})
"""What shows that a node cannot give what it was asked for."""
_NOT_THERE: Final = frozenset({"bus.no_responders"})
_OWNER: Final = "owner."
_BUS: Final = "bus."
_TIMEOUT: Final = "bus.timeout"


class Contained(msgspec.Struct, frozen=True):
    """A question that was not answered, so often.

    Not once: any chunk of it is asked for, since whoever read it got nothing that shows something. `given` is the
    BLAKE3 of what he got, if he got a piece and was not shown its claim.
    """

    segment: bytes
    chunk: int
    tries: int
    given: bytes = b""


class Job(NamedTuple):
    """What a node is asked; `tries` is how often it was asked that before, without an answer."""

    lender: Lender
    segment: bytes
    asked: Asked
    tries: int


class Result(NamedTuple):
    """What is to be booked. Without an outcome nothing counts; `contained` is asked again.

    `segment` is the one that was asked for: what is not live any more when it is booked counts for nothing.
    """

    lender: Lender
    outcome: Outcome | None
    segment: bytes = b""
    contained: Contained | None = None
    code: str = ""
    evidence: Evidence | None = None


class Questioner:
    """Asks nodes."""

    def __init__(self, clock: Clock, ask: Ask) -> None:
        self._clock = clock
        self._ask = ask

    async def ask(self, job: Job) -> Result:
        """Audit a node; takes as long as it may take for its answer."""
        asked, at_ms, began_ms = job.asked, self._clock.now_ms(), self._clock.monotonic_ms()
        answer, code, fault = b"", "", ""
        try:
            question = msgspec.msgpack.encode(Prove(asked.piece, asked.chunk))
            answer = await self._ask(job.lender.node, question, timeout_s=answer_s(asked.length))
            fault = await asyncio.to_thread(fault_of, asked, answer)
        except FallowError as error:
            code, answer = error.code, f"{error.code}: {error.message}".encode(errors="replace")
        took_ms = self._clock.monotonic_ms() - began_ms
        if not code and not fault:
            return Result(job.lender, "success", job.segment)
        outcome = "failed" if fault else await self._outcome_of(code, job, at_ms)
        again = _again(job) if code == _TIMEOUT or outcome == "unknown" else None
        evidence = Evidence(
            piece=asked.piece,
            chunk=asked.chunk,
            asked_ms=at_ms,
            took_ms=max(0, took_ms),
            found=printable(f"{outcome or 'nothing'}: {fault or code}"),
            answer=answer[:ANSWER_BYTES_MAX],
        )
        return Result(job.lender, outcome, job.segment, again, _code(outcome, code), evidence)

    async def _outcome_of(self, code: str, job: Job, at_ms: int) -> Outcome | None:
        """What an error counts as.

        Nodes can answer with any code: one that shows nothing is unknown, and at the last try a failure, since who errs
        in place of what he deleted would not be found else. A timeout counts as unknown once, so that who is always
        late and answers when asked again, from elsewhere, does not go unseen. An owner who needs his machine for
        himself is away. An error of the bus is the node's only where the network goes on hearing it.
        """
        last: Outcome = "failed" if job.tries >= RETRIES_MAX else "unknown"
        if code == _TIMEOUT:
            return last if last == "failed" or not job.tries else None
        if code in SHOWN:
            return "failed"
        if code in _NOT_THERE or code.startswith(_OWNER):
            return "offline"
        if code.startswith(_BUS):
            await self._clock.sleep(OURS_S)
            return last if job.lender.seen_ms > at_ms + SETTLED_MS else None
        return last


def printable(text: str, letters_max: int = WORDS_MAX) -> str:
    """Nodes answer with any code and words, of any length, and PostgreSQL keeps no zero byte in a text."""
    return "".join(letter for letter in text if letter.isprintable())[:letters_max]


def _again(job: Job) -> Contained | None:
    if job.tries >= RETRIES_MAX:
        return None
    return Contained(job.segment, job.asked.chunk, job.tries + 1, job.asked.given)


def _code(outcome: Outcome | None, code: str) -> str:
    if code == _TIMEOUT:
        return "storage.audit_timeout"
    return f"storage.audit_{outcome}" if outcome else ""
