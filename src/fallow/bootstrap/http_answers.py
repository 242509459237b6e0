"""An answer's head leaves in one write with the beginning of its body.

uvicorn writes each by itself. A process that is killed between the two leaves a head that says 200 with nothing behind
it, and boto3, which does not hold a body against its head, reads an empty answer: a bucket with nothing in it.
"""

from __future__ import annotations

import asyncio

import h11


class Answers(h11.Connection):
    """The server's side of a connection. An answer's head waits for what is sent in the same turn of the loop.

    Where nothing is (a stream whose first event is still to come), the head leaves alone.
    """

    def __init__(self, transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(h11.SERVER)
        self._transport = transport
        self._loop = loop
        self._head: list[bytes] = []

    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:
        """Return what is to be written now; see `h11.Connection`."""
        pieces = super().send_with_data_passthrough(event)
        if pieces is None:
            return None
        if isinstance(event, h11.Response):
            self._head = pieces
            self._loop.call_soon(self._write_head)
            return []
        return self._taken_head() + pieces

    def _taken_head(self) -> list[bytes]:
        head, self._head = self._head, []
        return head

    def _write_head(self) -> None:
        head = self._taken_head()
        if head and not self._transport.is_closing():
            self._transport.write(b"".join(head))
