"""The sender and the chain port's adapter on a chain of others, and the embedded chain beside it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from coincurve import PrivateKey

from fallow.adapters.clock import SystemClock
from fallow.adapters.evm.block_log import BlockLog
from fallow.adapters.evm.machine import PyEvm
from fallow.adapters.evm.rpc import EvmRpc, connect_chain
from fallow.adapters.signer import FileSigner
from fallow.domain.chain_facts import DEPOSIT_MIN
from fallow.domain.epochs.distributor import Claim, submit_call
from fallow.domain.epochs.leaves import tree_over
from fallow.domain.epochs.quorum import Decision, Domain, Root, Vote
from fallow.domain.errors import Unavailable
from fallow.domain.rewards.tree import Leaf, proof_of, root_of
from fallow.domain.sending import Done, Rules
from fallow.domain.transactions import answer_of, arguments_of, call_data, topic
from fallow.domain.wallets import address_of
from fallow.ports.chain import ContractRefused
from fallow.ports.tasks import background
from fallow.services.sender.claiming import Claiming
from fallow.services.sender.deployment import Plan, deploy
from fallow.services.sender.distributor import Distributor
from fallow.services.sender.service import Sender
from tests.anvil import CHAIN_ID, FIRST_KEY, Anvil, running_anvil
from tests.capability import require
from tests.evm_accounts import Holder, code_of
from tests.instant_chain import KeySigner

pytestmark = pytest.mark.xdist_group("contracts")

OWNER = address_of(PrivateKey(FIRST_KEY))
OTHER = b"\x22" * 20
TOKEN = arguments_of("(string,string,uint96,address)", "Token", "TOK", 10**27, OWNER)
MINT, TRANSFER = "mint(address,uint256)", "Transfer(address,address,uint256)"
RULES = Rules(depth=2, stuck_ms=500)


@pytest.fixture(scope="module", autouse=True)
def _npm() -> None:
    require("npm")


@pytest.fixture
def anvil() -> Iterator[Anvil]:
    with running_anvil("--no-mining") as chain:
        yield chain


class Account:
    """The first account of the chain, its key file, and what it has sent."""

    def __init__(self, folder: Path, chain: EvmRpc, anvil: Anvil) -> None:
        self._key = folder / "key"
        if not self._key.exists():
            self._key.touch(0o600)
            self._key.write_text(FIRST_KEY.hex())
        self._log = folder / "sends.log"
        self.chain = chain
        self.anvil = anvil

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        """A sender as a process has it that just started."""
        log = BlockLog(self._log)
        sender = Sender(
            chain=self.chain,
            chain_id=await self.chain.chain_id(),
            signer=FileSigner(self._key),
            log=log,
            clock=SystemClock(),
            rules=RULES,
            poll_s=0.02,
        )
        try:
            async with sender.running():
                yield sender
        finally:
            log.close()

    async def done(self, sender: Sender, id_: str, to: bytes, data: bytes) -> Done:
        """Send something, with blocks mined until it is for good."""
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(sender.send(id_, to, data))
            while not sending.done():
                await self.mine()
        return sending.result()

    async def mine(self, count: int = 1) -> None:
        """Mine blocks."""
        await asyncio.to_thread(self.anvil.ask, "anvil_mine", hex(count))

    async def waiting(self, count: int) -> list[Any]:
        """Transactions of this account in the node's pool, once there are as many."""
        found: list[Any] = []
        while len(found) != count:
            pool = await asyncio.to_thread(self.anvil.ask, "txpool_content")
            found = [one for sender in pool["pending"].values() for one in sender.values()]
        return found

    async def token(self, sender: Sender) -> bytes:
        """A token that this account may mint."""
        made = await self.done(sender, "token", b"", code_of("FallowToken") + TOKEN)
        await self.done(sender, "minter", made.contract, call_data("setMinter(address)", OWNER))
        return made.contract

    async def held(self, token: bytes) -> int:
        """What `OTHER` has of a token."""
        (amount,) = answer_of("(uint256)", await self.chain.call(token, call_data("balanceOf(address)", OTHER)))
        return int(amount)


@pytest.fixture
async def account(anvil: Anvil, tmp_path: Path) -> AsyncIterator[Account]:
    async with connect_chain(anvil.url) as chain:
        yield Account(tmp_path, chain, anvil)


async def test_a_contract_is_made_and_called_once_each(account: Account) -> None:
    async with account.sender() as sender:
        token = await account.token(sender)
        first = await account.done(sender, "mint", token, call_data(MINT, OTHER, 5))
        assert first.succeeded
        with pytest.raises(ContractRefused) as refused:
            await sender.send("burn", token, call_data("burn(uint256)", 1))
        assert refused.value.data[:4] == call_data("ERC20InsufficientBalance(address,uint256,uint256)", OWNER, 0, 0)[:4]
    async with account.sender() as sender:
        assert await sender.send("mint", token, call_data(MINT, OTHER, 5)) == first
        assert await account.held(token) == 5
        (event,) = await account.chain.events([token], [topic(TRANSFER)], 0, await account.chain.head())
        assert (event.transaction, event.topics[2][-20:]) == (first.transaction, OTHER)


async def test_a_stuck_transaction_is_replaced_by_one_that_offers_more(account: Account) -> None:
    async with account.sender() as sender, asyncio.TaskGroup() as group:
        token = await account.token(sender)
        sending = group.create_task(sender.send("mint", token, call_data(MINT, OTHER, 5)))
        first = offered = await account.waiting(1)
        account.anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(10**11))
        await account.mine()
        while offered == first:
            offered = await account.waiting(1)
        assert int(offered[0]["maxFeePerGas"], 16) > int(first[0]["maxFeePerGas"], 16)
        assert offered[0]["nonce"] == first[0]["nonce"]
        while not sending.done():
            await account.mine()
        assert await account.held(token) == 5


async def test_a_reorganisation_takes_a_mined_transaction_back(account: Account) -> None:
    async with account.sender() as sender, asyncio.TaskGroup() as group:
        token = await account.token(sender)
        sending = group.create_task(sender.send("mint", token, call_data(MINT, OTHER, 5)))
        await account.waiting(1)
        await account.mine()
        assert await account.held(token) == 5
        account.anvil.ask("anvil_reorg", 1, [])
        assert await account.held(token) == 0
        while not sending.done():
            await account.mine()
        assert sending.result().succeeded
        assert await account.held(token) == 5


async def test_another_program_uses_the_nonce(account: Account) -> None:
    async with account.sender() as sender, asyncio.TaskGroup() as group:
        token = await account.token(sender)
        sending = group.create_task(sender.send("mint", token, call_data(MINT, OTHER, 5)))
        (first,) = await account.waiting(1)
        thief = Holder(CHAIN_ID, int.from_bytes(FIRST_KEY))
        raw = thief.send(int(first["nonce"], 16), OTHER, b"", maxFeePerGas=10**12, maxPriorityFeePerGas=10**11)
        account.anvil.ask("eth_sendRawTransaction", "0x" + raw.hex())
        while not sending.done():
            await account.mine()
        assert await account.held(token) == 5


async def test_who_has_no_gas_is_paid_by_a_claim_that_another_sends(account: Account) -> None:
    """A quorum's root, a payee who never had a coin: he signs, the first account of the chain sends."""
    payee = PrivateKey(b"\x51" * 32)
    async with account.sender() as sender, background(_mines_on(account)):
        made = await deploy(sender, code_of, Plan(OWNER, [OWNER], 0))
        distributor = Distributor(account.chain, Domain(CHAIN_ID, made.distributor))
        for to, call in (
            (made.settlement, call_data("give(address,uint256)", OWNER, DEPOSIT_MIN)),
            (made.settlement, call_data("approve(address,uint256)", made.distributor, DEPOSIT_MIN)),
            (made.distributor, call_data("deposit(address,uint256)", OTHER, DEPOSIT_MIN)),
        ):
            await sender.send(f"fund/{call.hex()[:8]}", to, call)
        leaf = Leaf(address_of(payee), made.settlement, 7)
        tree = tree_over([leaf])
        root = Root(1, 0, root_of(tree), 7, 0, bytes(32))
        vote = Vote.cast(PrivateKey(FIRST_KEY), distributor.domain, root)
        decided = Decision(root, (vote.signer,), (vote.signature,))
        await sender.send("root", made.distributor, submit_call(decided))
        claims = [Claim(1, leaf, proof_of(tree, leaf))]
        claiming = Claiming(distributor, _unasked, SystemClock())
        signed = await claiming.redirect(KeySigner(payee), claims, OTHER, 1 << 40)
        assert (await claiming.relay(sender, *signed)).succeeded
        asked = call_data("balanceOf(address)", OTHER)
        assert answer_of("(uint256)", await account.chain.call(made.settlement, asked)) == (7,)


async def _mines_on(account: Account) -> None:
    while True:
        await account.mine()


async def _unasked(_: int, __: bytes) -> list[Claim]:
    raise AssertionError


class LosesAnswers(httpx2.AsyncHTTPTransport):
    """A line that breaks after the node got a transaction, before its answer."""

    lost = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Carry a request; what sends a transaction times out."""
        answer = await super().handle_async_request(request)
        if b"eth_sendRawTransaction" in request.content:
            self.lost += 1
            raise httpx2.ReadTimeout("the line broke")
        return answer


async def test_a_node_that_times_out_after_accepting(account: Account, anvil: Anvil) -> None:
    line = LosesAnswers()
    async with account.sender() as sender:
        token = await account.token(sender)
    async with httpx2.AsyncClient(transport=line) as client:
        account.chain = EvmRpc(client, anvil.url)
        async with account.sender() as sender:
            done = await account.done(sender, "mint", token, call_data(MINT, OTHER, 5))
        assert done.succeeded
        assert line.lost
        assert await account.held(token) == 5
        assert int(anvil.ask("eth_getTransactionCount", "0x" + OWNER.hex(), "latest"), 16) == 3


async def test_a_process_that_ends_after_sending_finds_what_it_sent(account: Account) -> None:
    async with account.sender() as sender:
        token = await account.token(sender)
    async with account.sender() as sender, asyncio.TaskGroup() as group:
        sending = group.create_task(sender.send("mint", token, call_data(MINT, OTHER, 5)))
        await account.waiting(1)
        sending.cancel()
    (sent,) = await account.waiting(1)
    await account.mine(3)
    async with account.sender() as sender:
        done = await sender.send("mint", token, call_data(MINT, OTHER, 5))
    assert "0x" + done.transaction.hex() == sent["hash"]
    assert await account.held(token) == 5


async def test_a_node_that_is_not_there_says_so() -> None:
    async with connect_chain("http://127.0.0.1:1", ssl.create_default_context()) as chain:
        with pytest.raises(Unavailable, match=r"chain\.silent"):
            await chain.head()


def test_the_embedded_chain_does_to_the_gas_what_others_do(anvil: Anvil) -> None:
    """The same signed transactions on both: equal addresses, outcomes, gas and events."""
    holder, machine = Holder(CHAIN_ID), PyEvm(CHAIN_ID)
    anvil.ask("anvil_setNextBlockBaseFeePerGas", "0x0")
    anvil.ask("anvil_setBalance", "0x" + holder.address.hex(), hex(10**18))
    raws = [holder.token()]
    token = machine.mine([machine.decode(raws[0])], 1).outcomes[0].contract
    calls = [
        call_data("setMinter(address)", holder.address),
        call_data(MINT, holder.address, 10**18),
        call_data(MINT, OTHER, 1),
        call_data("transfer(address,uint256)", OTHER, 7),
        call_data("transfer(address,uint256)", OTHER, 10**20),
        call_data("burn(uint256)", 10**18 - 7),
        call_data("setMinter(address)", bytes(20)),
        call_data(MINT, OTHER, 1),
    ]
    raws += [holder.send(1 + at, token, data) for at, data in enumerate(calls)]
    block = machine.mine([machine.decode(raw) for raw in raws[1:]], 2)
    hashes = [anvil.ask("eth_sendRawTransaction", "0x" + raw.hex()) for raw in raws]
    anvil.ask("anvil_mine", "0x1")
    theirs = [anvil.ask("eth_getTransactionReceipt", one) for one in hashes]
    assert theirs[0]["contractAddress"] == "0x" + token.hex()
    for outcome, receipt in zip(block.outcomes, theirs[1:], strict=True):
        assert int(receipt["gasUsed"], 16) == outcome.gas_used
        assert int(receipt["status"], 16) == outcome.succeeded
        logs = [(log["address"], log["topics"], log["data"]) for log in receipt["logs"]]
        ours = [
            ("0x" + log.address.hex(), ["0x" + one.hex() for one in log.topics], "0x" + log.data.hex())
            for log in outcome.logs
        ]
        assert ours == logs
    assert [outcome.succeeded for outcome in block.outcomes].count(False) == 2
