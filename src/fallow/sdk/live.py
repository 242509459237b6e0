"""What a running item writes, while it runs, and to its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

import httpx2
import msgspec

from fallow.domain.calls.streams import Reach, RunCommand, StreamGrant
from fallow.domain.commands import Kind, Pieces
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import Conflict, NotFound, TooMuch, Unavailable
from fallow.domain.jobs import FINAL
from fallow.domain.streams import LogSource, Purpose
from fallow.sdk.patience import PASSING, Outage
from fallow.sdk.runs import RunCalls
from fallow.sdk.wire import error_in

LOOK_FIRST_S: Final = 0.02
LOOK_EVERY_S: Final = 0.5
LOOK_GROWTH: Final = 1.25
"""How often an item that does not run yet is looked at; at first sooner, a quarter later after each look."""
OUTPUT_BYTES_MAX: Final = 64 << 20
"""Of a command that is waited for: the machine that it runs on is a stranger's."""
LEASE_HEADER: Final = "Fallow-Lease"
SILENCE: Final = httpx2.Timeout(10.0, read=None)
"""A program may say nothing for as long as it likes."""


class Executed(NamedTuple):
    """What became of a command: as shells count, 127 where there is no such program, 128 + a signal's number."""

    code: int
    stdout: bytes
    stderr: bytes


class LiveCalls(RunCalls):
    """Looks into running work."""

    async def logs(
        self, job_id: str, index: int = 0, *, source: LogSource = "stdout", follow: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """What an item writes to stdout or stderr: so far, or with `follow` until it ends.

        Of an item that has ended it is what its result holds. Where another machine has to begin the work anew while
        it is followed, the output begins anew as well.

        Raises:
            NotFound: the job has no such item.
            Conflict: the item does not run yet, and is not followed (`item.not_running`).
        """
        reading = _Reading(source, follow)
        outage = Outage(self._patience)
        pause_s = LOOK_FIRST_S
        while True:
            item = await self.item(job_id, index)
            if item.state in FINAL:
                async for piece in self._rest(job_id, index, reading):
                    yield piece
                return
            try:
                async with aclosing(self._live(job_id, index, reading)) as pieces:
                    async for piece in pieces:
                        outage.over()
                        yield piece
                if not follow:
                    return
            except (Conflict, NotFound) as error:  # it has not begun, or has just ended
                if not (follow and error.code.startswith(("item.", "stream."))):
                    raise
            except PASSING as error:
                await outage.pause(error)
            await self._patience.sleep(pause_s)
            pause_s = min(LOOK_EVERY_S, LOOK_GROWTH * pause_s)

    async def exec(self, job_id: str, command: Sequence[str], index: int = 0, *, stdin: str = "") -> Executed:
        """Run a command in the sandbox of an item that runs now, under its limits, and wait for its end.

        Raises:
            NotFound: there is no such open item, or nothing to run a command in (`stream.no_inside`).
            Conflict: it does not run (`item.not_running`).
            TooMuch: it wrote more than OUTPUT_BYTES_MAX.
            Unavailable: it was cut off: the job may have ended.
        """
        await self.item(job_id, index)  # an id that is none would lead elsewhere
        path = f"/v1/jobs/{job_id}/items/{index}/exec"
        body = msgspec.json.encode(RunCommand(command=list(command), stdin=stdin))
        request = self._http.build_request(
            "POST", path, content=body, headers={"Content-Type": "application/json"}, timeout=SILENCE
        )
        try:
            async with self._opened(request) as response:
                return await _executed(response.aiter_bytes())
        except (httpx2.TransportError, *UNREADABLE) as error:
            raise Unavailable("exec.cut_off", f"The command was cut off: {error}.") from error

    async def reach(self, job_id: str, index: int, purpose: Purpose, *, direct: bool = False) -> StreamGrant:
        """Get a ticket for streams to an item that runs now; see `/v1/streams` in the design of the data plane.

        With `direct` it says where the node itself can be dialled, if it can.

        Raises:
            NotFound: there is no such open item.
            Conflict: it does not run (`item.not_running`).
        """
        await self.item(job_id, index)  # an id that is none would lead elsewhere
        path = f"/v1/jobs/{job_id}/items/{index}/streams"
        return await self._call("POST", path, StreamGrant, body=Reach(purpose=purpose, direct=direct))

    async def _live(self, job_id: str, index: int, reading: _Reading) -> AsyncGenerator[bytes, None]:
        request = self._http.build_request(
            "GET", f"/v1/jobs/{job_id}/items/{index}/logs", params=reading.query, timeout=SILENCE
        )
        async with self._opened(request) as response:
            if reading.is_other(response.headers.get(LEASE_HEADER, "")):
                return  # ask again, from its beginning
            async for piece in response.aiter_bytes():
                reading.offset += len(piece)
                yield piece

    async def _rest(self, job_id: str, index: int, reading: _Reading) -> AsyncGenerator[bytes, None]:
        """What the item's result holds beyond what was read."""
        result = await self.result(job_id, index)
        whose = index, result.item.node
        leases = [lease async for lease in self.all_leases(job_id) if (lease.item, lease.node) == whose]
        if leases:
            reading.is_other(max(leases, key=lambda lease: lease.started_at or 0).id)
        whole = await (result.stdout() if reading.source == "stdout" else result.stderr())
        if rest := whole[reading.offset :]:
            yield rest


async def _executed(body: AsyncIterator[bytes]) -> Executed:
    pieces = Pieces()
    written = {Kind.OUTPUT: bytearray(), Kind.ERRORS: bytearray()}
    async for data in body:
        for piece in pieces.feed(data):
            if piece.kind is Kind.EXIT:
                return Executed(piece.code, bytes(written[Kind.OUTPUT]), bytes(written[Kind.ERRORS]))
            if piece.kind is Kind.REFUSED:
                raise error_in(piece.payload)
            if piece.kind in written:
                written[piece.kind] += piece.payload
        if sum(map(len, written.values())) > OUTPUT_BYTES_MAX:
            raise TooMuch("exec.output", f"The command wrote more than {OUTPUT_BYTES_MAX >> 20} MiB.")
    raise Unavailable("exec.cut_off", "The command was cut off: its job may have ended.")


class _Reading:
    """How far the output was read, and of which lease."""

    def __init__(self, source: LogSource, follow: bool) -> None:
        self.source = source
        self.offset = 0
        self._follow = follow
        self._lease = ""

    @property
    def query(self) -> dict[str, str | int]:
        return {"source": self.source, "offset": self.offset, "follow": "true" if self._follow else "false"}

    def is_other(self, lease: str) -> bool:
        """Whether the output is another's than what was read so far; from then on it is read from its beginning."""
        other = self.offset > 0 and lease != self._lease
        self._lease = lease
        if other:
            self.offset = 0
        return other
