"""Sends transactions of one account: each is recorded before it leaves, and followed until it is mined for good.

Whoever asks names what is to be done by an id of its own; the same id is the same transaction, after a crash, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import msgspec

from fallow.domain.errors import Conflict, FallowError, TooMuch, Unavailable
from fallow.domain.sending import PPM, Attempt, Done, Rules, Send, Sight, Step, filler, next_step, offer
from fallow.domain.transactions import Unsigned
from fallow.domain.wallets import keccak
from fallow.ports.chain import Chain, Receipt
from fallow.ports.clock import Clock
from fallow.ports.log import Log
from fallow.ports.signer import Signer
from fallow.ports.tasks import background, first_error

OPEN_MAX = 32
"""Below what nodes let one account have waiting."""
GAS_MARGIN_PPM = 1_200_000
"""Gas that is allowed, of what the node estimates: state may change until it is mined."""


class Sender:
    """One for an account and chain; its log has one writer.

    What it signs is for the chain of the number `chain_id`, whichever a node says that it is: on another chain the
    same account may have more to lose.
    """

    def __init__(
        self,
        *,
        chain: Chain,
        chain_id: int,
        signer: Signer,
        log: Log,
        clock: Clock,
        rules: Rules,
        poll_s: float = 2.0,
    ) -> None:
        self._chain = chain
        self._chain_id = chain_id
        self._signer = signer
        self._log = log
        self._clock = clock
        self._rules = rules
        self._poll_s = poll_s
        self._sends: dict[str, Send] = {}
        self._waiting: dict[str, asyncio.Future[Done]] = {}
        self._numbering = asyncio.Lock()
        self._wake = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow what was recorded and is not done, and what is asked for, while the context is open."""
        for entry in self._log.entries():
            send = msgspec.msgpack.decode(entry, type=Send)
            self._sends[send.id] = send
        self._wake.set()
        with first_error():
            async with background(self._follow()):
                yield

    def knows(self, id_: str) -> bool:
        """Whether it was asked to do this before."""
        return id_ in self._sends

    async def send(self, id_: str, to: bytes, data: bytes) -> Done:
        """Do something once: call a contract, or make one (`to` is empty). Waits until it is mined for good.

        Raises:
            Conflict: the id names something else.
            ContractRefused: it would fail; nothing was recorded.
            InvalidInput: the node refuses it as it is, for want of coin for instance. It stays recorded, and goes on
                when that is mended.
            TooMuch: too many are under way; nothing was recorded.
            Unavailable: no node answers; nothing was recorded.
        """
        async with self._numbering:
            known = self._sends.get(id_) or await self._first(id_, to, data)
        if (known.to, known.data) != (to, data):
            raise Conflict("chain.other_send", f"{id_} was sent already, and does something else.")
        if known.done is not None:
            return known.done
        future = self._waiting.setdefault(id_, asyncio.get_running_loop().create_future())
        self._wake.set()
        return await asyncio.shield(future)

    async def send_anew(self, id_: str, to: bytes, data: bytes) -> Done:
        """Do something once that others can thwart: what was mined and failed is tried again, if it would succeed now.

        What is under way goes on as it was asked for first, whatever `data` says now. Raises as `send`.
        """
        while (done := await self.finish(id_)) is None:
            attempt = next(number for number in count() if not self.knows(f"{id_}/{number}"))
            await self.send(f"{id_}/{attempt}", to, data)
        return done

    async def finish(self, id_: str) -> Done | None:
        """Wait for what `send_anew` was asked before under this id; None where nothing was, or all of it failed.

        Raises as `send`.
        """
        for number in count():
            known = self._sends.get(f"{id_}/{number}")
            if known is None:
                return None
            done = await self.send(known.id, known.to, known.data)
            if done.succeeded:
                return done
        return None

    async def _first(self, id_: str, to: bytes, data: bytes) -> Send:
        if len(self._open()) >= OPEN_MAX:
            raise TooMuch("chain.sends", f"{OPEN_MAX} transactions are under way.", "Wait until some are mined.")
        gas = await self._chain.estimate(self._signer.address, to, data) * GAS_MARGIN_PPM // PPM
        return await self._sign(Send(id_, to, data, gas, await self._free_nonce()))

    async def _free_nonce(self) -> int:
        """After all that are used, and all that were ever given out."""
        seen = await self._chain.look(self._signer.address, (), self._rules.depth)
        return max([seen.nonce_mined, *(send.nonce + 1 for send in self._sends.values())])

    async def _sign(self, send: Send) -> Send:
        """Record another signed form of it; only then may it leave."""
        fees = await self._chain.fees()
        last = send.attempts[-1] if send.attempts else None
        fee_max, tip = offer(fees.base, fees.tip, last, self._rules)
        if last is not None and (fee_max, tip) == (last.fee_max, last.tip):
            return send  # where gas costs nothing there is no more to offer
        unsigned = Unsigned(self._chain_id, send.nonce, send.to, send.data, send.gas, fee_max=fee_max, tip=tip)
        raw = unsigned.signed(await self._signer.sign(unsigned.digest))
        attempt = Attempt(raw, keccak(raw), fee_max, tip, self._clock.now_ms())
        return self._record(msgspec.structs.replace(send, attempts=(*send.attempts, attempt)))

    def _record(self, send: Send) -> Send:
        self._log.append(msgspec.msgpack.encode(send))
        self._sends[send.id] = send
        return send

    def _open(self) -> list[Send]:
        return sorted((send for send in self._sends.values() if send.done is None), key=lambda send: send.nonce)

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            try:
                async with self._numbering:
                    await self._round()
            except Unavailable:
                pass  # whatever the node has taken of it shows when it answers again
            if not self._open():
                self._wake.clear()
            else:
                await self._clock.sleep(self._poll_s)

    async def _round(self) -> None:
        """Look once, and take the next step with each that is open, in the order of their nonces; fill a gap."""
        sends = self._open()
        hashes = [attempt.hash for send in sends for attempt in send.attempts]
        seen = await self._chain.look(self._signer.address, hashes, self._rules.depth)
        mined = {receipt.transaction: receipt for receipt in seen.receipts if receipt is not None}
        gap = filler(self._signer.address, self._sends.values(), seen.nonce_mined, self._clock.now_ms(), self._rules)
        if gap is not None:
            await self._submit(await self._sign(gap))
        for send in sends:
            receipts = [mined[attempt.hash] for attempt in send.attempts if attempt.hash in mined]
            sight = Sight(seen.head, seen.nonce_mined, seen.nonce_final, [receipt.block for receipt in receipts])
            await self._take(next_step(send, sight, self._clock.now_ms(), self._rules), send, receipts)

    async def _take(self, step: Step, send: Send, receipts: list[Receipt]) -> None:
        if step is Step.RECORD:
            (receipt,) = receipts
            done = Done(receipt.transaction, receipt.block, receipt.succeeded, receipt.contract)
            self._record(msgspec.structs.replace(send, done=done))
            if future := self._waiting.pop(send.id, None):
                future.set_result(done)
        elif step is Step.MOVE:
            moved = msgspec.structs.replace(send, nonce=await self._free_nonce(), attempts=())
            await self._submit(await self._sign(moved))
        elif step is Step.DROP:
            self._record(msgspec.structs.replace(send, done=Done(b"", 0, succeeded=False, contract=b"")))
        elif step is Step.OUTBID:
            await self._submit(await self._sign(send))
        elif step is Step.SUBMIT:
            await self._submit(send)

    async def _submit(self, send: Send) -> None:
        try:
            await self._chain.submit(send.attempts[-1].raw)
        except (Conflict, Unavailable):
            return  # the next look shows which: mined, replaced, taken after all, or nothing
        except FallowError as error:
            if future := self._waiting.pop(send.id, None):
                future.set_exception(error)
