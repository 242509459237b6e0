"""How this node leaves with its disk, as its folder remembers: its own wish, and in the end the network's receipt.

Blocking; for threads.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from fallow.domain.errors import FallowError, InvalidInput, Unavailable
from fallow.domain.signing import Sign
from fallow.ports.vertical.worker import HandBack
from fallow.verticals.storage.core.exiting import WORDS, ExitReceipt, ExitWish
from fallow.verticals.storage.core.lending import size_text
from fallow.verticals.storage.core.questions import ExitSays, Stock
from fallow.verticals.storage.worker.folder import write_whole

WISH: Final = "exit-wish"
RECEIPT: Final = "exit-receipt"


class Leaving:
    """The files of it in the folder `kept`. `network_key` is the network's, `node` this node's key."""

    def __init__(self, kept: Path, *, net: str, node: bytes, network_key: bytes) -> None:
        self._kept = kept
        self._net = net
        self._node = node
        self._network_key = network_key
        self._says: ExitSays | None = None
        self.wish = _read(kept / WISH)
        """Sealed; empty: the node stays."""
        self._sealed = _read(kept / RECEIPT)
        self.receipt = self._opened(self._sealed)

    @property
    def receipt_path(self) -> Path:
        """Where the sealed receipt is, once there is one."""
        return self._kept / RECEIPT

    def begin(self, sign: Sign, now_ms: int) -> None:
        """Wish to leave; who wished to before wishes no more than that.

        Raises:
            Unavailable: it cannot be kept (`storage.exit`).
        """
        if not self.wish:
            wish = ExitWish(net=self._net, node=self._node, at_ms=now_ms).seal(sign)
            self._keep(WISH, wish)
            self.wish = wish

    def hear(self, says: ExitSays) -> None:
        """Take what the network says.

        Raises:
            InvalidInput, NotAllowed: the receipt is not the network's for this node.
            Unavailable: it cannot be kept (`storage.exit`).
        """
        if says.receipt:
            receipt = ExitReceipt.open(says.receipt, self._network_key)
            if (receipt.net, receipt.node) != (self._net, self._node):
                raise InvalidInput("storage.exit", "That receipt is another node's.")
            self._keep(RECEIPT, says.receipt)
            self._sealed, self.receipt = says.receipt, receipt
        self._says = says

    def stock(self) -> bytes:
        """What is told where nothing is served any more: that it has left, if it has."""
        if self.receipt is None:
            return b""
        nothing = Stock(limit_bytes=0, used_bytes=0, room_bytes=0, trash_bytes=0, pieces=0)
        return msgspec.msgpack.encode(msgspec.structs.replace(nothing, wish=self.wish, receipt=self._sealed))

    def state(self) -> HandBack:
        """How far it is, for the owner."""
        if self.receipt is not None:
            receipt, path = self.receipt, self.receipt_path
            details = shown(receipt) | {"receipt": str(path)}
            return HandBack(receipt_text(receipt, path), receipt.held, receipt.held, over=True, details=details)
        if self._says is None:
            return HandBack("The network has not answered yet: it has to hear of this machine first.", 0, 0)
        says = self._says
        done = says.moved + says.failed + says.gone
        words = f"{says.moved:,} pieces ({size_text(says.moved_bytes)}) are on other machines"
        words += f", {says.failed:,} could not be had here" if says.failed else ""
        words += f"; {says.waiting:,} wait" if says.counted else f"; {says.waiting:,} wait, and more are looked for"
        words += f". The last that was in the way: {says.reason}" if says.reason and says.waiting else ""
        return HandBack(words, done, done + says.waiting)

    def _opened(self, sealed: bytes) -> ExitReceipt | None:
        """What lies there may be anything; that it was the network's is checked once more."""
        try:
            return ExitReceipt.open(sealed, self._network_key) if sealed else None
        except FallowError:
            return None

    def _keep(self, name: str, data: bytes) -> None:
        try:
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._kept / name, data)
        except OSError as error:
            raise Unavailable("storage.exit", f"It cannot be kept: {error}.", "Free some space.") from error


def receipt_text(receipt: ExitReceipt, path: Path) -> str:
    """Say what a receipt says."""
    ended = datetime.fromtimestamp(receipt.ended_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    verdict = f"no success: {WORDS[receipt.why]} ({receipt.why})" if receipt.why else "a success"
    return (
        f"This machine has left with its disk on {ended}: {verdict}.\nOf {receipt.held:,} pieces {receipt.moved:,}"
        f" ({size_text(receipt.moved_bytes)}) were moved, {receipt.gone:,} had gone before, {receipt.failed:,} could"
        f" not be had, {receipt.unplaced:,} found no other place.\nThe network's signed receipt is {path}. Once the"
        " agent was started again, the folder may be deleted."
    )


def shown(receipt: ExitReceipt) -> dict[str, Any]:
    """What a receipt says, for programs: bytes as hex."""
    fields = msgspec.structs.asdict(receipt)
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
