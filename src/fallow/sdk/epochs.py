"""Closed epochs: what the network says of them, and their files, fetched and verified here."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from fallow.domain.batches import Promise
from fallow.domain.epochs.keeping import read_holdings
from fallow.domain.epochs.lines import INCENTIVE, USAGE
from fallow.domain.epochs.manifest import BATCHES, MANIFEST, STATEMENT, Manifest, checked, damaged, path_of
from fallow.domain.epochs.promises import BrokenPromise, missing
from fallow.domain.epochs.reading import checked_records
from fallow.domain.epochs.state import STATE, read_state
from fallow.domain.epochs.statement import NONE, Statement
from fallow.domain.errors import InvalidInput, NotAllowed, NotFound
from fallow.domain.identity import address_text
from fallow.domain.views.epochs import EpochEndView, EpochView, ProofView
from fallow.domain.views.network import NetworkView
from fallow.domain.views.votes import VotesView
from fallow.sdk.transfers import BlobCalls

PIECE_BYTES = 1 << 20
CLOSED_POLL_S = 1.0
BESIDE_BYTES_MAX = 4096
"""Two votes, the most that such a file holds, have half of it."""


class FetchedEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """What was found when an epoch was fetched: every hash, signature and promise in it holds.

    `follows` says that the epoch before lies in the same folder and this one names its statement. `key` is the
    network's key (hex) that all was verified with. `votes` and `evidence` are the validators whose vote, or whose two
    votes, came along; what they say is not looked at here.
    """

    epoch: int
    folder: str
    statement: str
    batches: int
    records: int
    nodes: int
    size: int
    follows: bool
    key: str
    votes: list[str] = []
    evidence: list[str] = []


class PromisesReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of promises: kept, about epochs that are not closed yet, or broken."""

    kept: int
    open: int
    broken: list[BrokenPromise]


class HeldPay(msgspec.Struct, frozen=True, kw_only=True):
    """What is held of an account's pay after an epoch: micro-US-dollars of usage, and the token's smallest unit.

    `nodes` are those (hex) by which some of its usage is held: each has an age of its own, and forfeits its own.
    """

    epoch: int
    usage_microusd: int
    incentive: str
    nodes: dict[str, int] = {}


class EpochCalls(BlobCalls):
    """Epochs."""

    async def epochs(self, *, before: int | None = None, limit: int = 30) -> list[EpochView]:
        """List closed epochs, the latest first."""
        query: dict[str, str | int] = {"limit": limit} if before is None else {"limit": limit, "before": before}
        return await self._call("GET", "/v1/epochs", list[EpochView], query=query)

    async def epoch(self, number: int) -> EpochView:
        """Look at a closed epoch; NotFound while it is not closed."""
        return await self._call("GET", f"/v1/epochs/{number}", EpochView)

    async def votes(self, number: int) -> VotesView:
        """Look at how validators voted about a closed epoch."""
        return await self._call("GET", f"/v1/epochs/{number}/votes", VotesView)

    async def proofs(self, number: int, account: str) -> list[ProofView]:
        """What an account is owed by a closed epoch's root. It is the network's word: check the proofs by the root."""
        return await self._call("GET", f"/v1/epochs/{number}/proofs/{account}", list[ProofView])

    async def end_epoch(self, *, after: int | None = None) -> EpochEndView:
        """Operator: end the open epoch before its time. It is closed a little later; see `closed_epoch`.

        With `after`, the latest one that is closed, it can be asked again: no other epoch ends by that.
        """
        query: dict[str, str | int] = {} if after is None else {"after": after}
        return await self._call("POST", "/v1/operator/epochs", EpochEndView, query=query, again=after is not None)

    async def closed_epoch(self, number: int) -> EpochView:
        """Wait until an epoch is closed, and look at it."""
        while True:
            try:
                return await self.epoch(number)
            except NotFound as error:
                if error.code != "epoch.not_closed":
                    raise
            await self._patience.sleep(CLOSED_POLL_S)

    async def fetch_epoch(self, number: int, folder: Path, *, key: str = "") -> FetchedEpoch:
        """Download an epoch into `folder`/epochs/<n>, and verify all of it. `key` is the network's public key (hex).

        Without `key` the network is asked for it: what is found then says that all is in order under that key, and not
        whose it is.

        Raises:
            InvalidInput: `archive.*`: something in it does not hold.
            Conflict: `sdk.hash`: other bytes came than were named.
        """
        network_key = key_of(key or (await self._call("GET", "/v1/network", NetworkView)).public_key)
        statement, manifest = await self._fetch_said(number, folder, network_key)
        for file in (*manifest.files, *statement.files):
            await self._fetch_file(number, file.name, file.sha256.hex(), folder / path_of(number, ""))
        found = await asyncio.to_thread(verify_epoch, folder, number, network_key)
        votes, evidence = [
            [
                who
                for who in map(address_text, statement.validators)
                if await self._beside(number, f"{kind}/{who}", folder)
            ]
            for kind in ("votes", "evidence")
        ]
        return msgspec.structs.replace(found, votes=votes, evidence=evidence)

    async def check_promises(self, promises: Sequence[bytes], folder: Path, network_key: bytes) -> PromisesReport:
        """Hold the network to promises of its own, with what of its archive that takes; `folder` keeps that.

        Raises as `fetch_epoch`.
        """
        by_epoch: dict[int, dict[Promise, bytes]] = {}
        for sealed in promises:
            said = Promise.open(sealed, network_key)
            by_epoch.setdefault(said.epoch, {})[said] = sealed
        kept, still_open, broken = 0, 0, list[BrokenPromise]()
        for number, given in sorted(by_epoch.items()):
            try:
                lacking = await self._lacking(number, list(given), folder, network_key)
            except NotFound as error:
                if error.code != "epoch.not_closed":
                    raise
                still_open += len(given)
                continue
            statement = await asyncio.to_thread((folder / path_of(number, STATEMENT)).read_bytes)
            broken += [BrokenPromise(promise=given[each], statement=statement) for each in lacking]
            kept += len(given) - len(lacking)
        return PromisesReport(kept=kept, open=still_open, broken=broken)

    async def held_pay(self, account: str, folder: Path, network_key: bytes) -> HeldPay | None:
        """What is held of an account's pay, by the latest closed epoch; None before there is one.

        `folder` keeps what of the archive that takes. Raises as `fetch_epoch`.
        """
        latest = await self.epochs(limit=1)
        if not latest:
            return None
        number, held, nodes = latest[0].epoch, Counter[str](), Counter[str]()
        statement, _ = await self._fetch_said(number, folder, network_key)
        if any(int.from_bytes(statement.totals.get(f"held.{part}", b"")) for part in (USAGE, INCENTIVE)):
            file = next((file for file in statement.files if file.name == STATE), None)
            if file is None:
                raise InvalidInput("archive.state", f"The statement of epoch {number} names no state.")
            path = folder / path_of(number, STATE)
            await self._fetch_file(number, STATE, file.sha256.hex(), folder / path_of(number, ""))
            state = await asyncio.to_thread(lambda: read_state(path.read_bytes()))
            for (vertical, node, whose), holding in read_holdings(state.carried).items():
                if address_text(whose) == account:
                    held.update(holding.left)
                    nodes[node.hex()] += holding.left.get(USAGE, 0) if vertical else 0
        return HeldPay(epoch=number, usage_microusd=held[USAGE], incentive=str(held[INCENTIVE]), nodes=dict(+nodes))

    async def is_broken(self, evidence: BrokenPromise, folder: Path, network_key: bytes) -> bool:
        """Whether evidence convicts the network: judged by the files that its statement names, from wherever.

        Raises:
            InvalidInput, NotAllowed: it is no evidence against this network.
            InvalidInput: `archive.manifest`: the archive was closed under another statement than that in the evidence.
        """
        promise, statement = evidence.opened(network_key)
        lacking = await self._lacking(promise.epoch, [promise], folder, network_key)
        statement.check_manifest(await asyncio.to_thread((folder / path_of(promise.epoch, MANIFEST)).read_bytes))
        return bool(lacking)

    async def _lacking(self, number: int, given: list[Promise], folder: Path, network_key: bytes) -> list[Promise]:
        manifest = await self._fetch_heads(number, folder, network_key)
        return await asyncio.to_thread(
            missing, given, manifest, lambda name: read_file(folder, number, name), network_key
        )

    async def _fetch_heads(self, number: int, folder: Path, network_key: bytes) -> Manifest:
        """Download what says which batches an epoch has."""
        _, manifest = await self._fetch_said(number, folder, network_key)
        await self._fetch_file(number, BATCHES, manifest.file(BATCHES).sha256.hex(), folder / path_of(number, ""))
        return manifest

    async def _fetch_said(self, number: int, folder: Path, network_key: bytes) -> tuple[Statement, Manifest]:
        """Download statement and manifest."""
        view = await self.epoch(number)
        place = folder / path_of(number, "")
        await asyncio.to_thread(place.mkdir, parents=True, exist_ok=True)
        await self._fetch_file(number, STATEMENT, view.statement, place)
        statement = Statement.open(await asyncio.to_thread((place / STATEMENT).read_bytes), network_key)
        statement.check_is(number)
        await self._fetch_file(number, MANIFEST, statement.manifest.hex(), place)
        return statement, statement.check_manifest(await asyncio.to_thread((place / MANIFEST).read_bytes))

    async def _beside(self, number: int, name: str, folder: Path) -> bool:
        """Download a file that came after the statement, which does not name it; whether there is one."""
        try:
            data = await self._small(f"/v1/epochs/{number}/files/{name}", BESIDE_BYTES_MAX)
        except NotFound:
            return False
        path = folder / path_of(number, name)
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(path.write_bytes, data)
        return True

    async def _fetch_file(self, number: int, name: str, sha256: str, place: Path) -> None:
        path = place / name
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        if not await asyncio.to_thread(_is_there, path, sha256):
            await self._download(f"/v1/epochs/{number}/files/{name}", sha256, path)


def verify_epoch(folder: Path, number: int, network_key: bytes) -> FetchedEpoch:
    """Verify an epoch that lies in a folder: the statement, every file, every signature and promise.

    Raises:
        InvalidInput: `archive.*`: something in it does not hold, or a file is missing.
        NotAllowed: the statement is not signed by the network.
    """
    sealed, statement, manifest = read_epoch(folder, number, network_key)
    nodes, records = set(), 0
    for filed in checked_records(manifest, lambda name: read_file(folder, number, name), network_key):
        nodes.add(filed.node)
        records += 1
    for file in statement.files:
        for _ in checked(file, read_file(folder, number, file.name)):
            pass
    return FetchedEpoch(
        epoch=number,
        folder=str(folder),
        statement=hashlib.sha256(sealed).hexdigest(),
        batches=manifest.file(BATCHES).count,
        records=records,
        nodes=len(nodes),
        size=sum(file.size for file in (*manifest.files, *statement.files)),
        follows=_follows(folder, statement),
        key=network_key.hex(),
    )


def read_epoch(folder: Path, number: int, network_key: bytes) -> tuple[bytes, Statement, Manifest]:
    """Read what the network said of an epoch that lies in a folder: the statement as it was signed, and what is in it.

    Raises as `verify_epoch`.
    """
    sealed = b"".join(read_file(folder, number, STATEMENT))
    try:
        statement = Statement.open(sealed, network_key)
    except NotAllowed as error:
        raise NotAllowed(
            error.code,
            f"{error.message} It lies in {folder / path_of(number, STATEMENT)}.",
            "If epochs of another network lie there, take another folder.",
        ) from error
    statement.check_is(number)
    return sealed, statement, statement.check_manifest(b"".join(read_file(folder, number, MANIFEST)))


def read_file(folder: Path, number: int, name: str) -> Iterator[bytes]:
    """Read a file of an epoch that lies in a folder, piece by piece.

    Raises:
        InvalidInput: `archive.damaged`: it is missing.
    """
    try:
        with (folder / path_of(number, name)).open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
    except FileNotFoundError:
        raise damaged(name, f"It is missing in epoch {number}.") from None


def is_whole(folder: Path, number: int, network_key: bytes, *, records: bool) -> bool:
    """Whether no file of an epoch is missing in a folder, be it all of them or those without its records.

    What is in them is not looked at. A download that broke off leaves some, and so does looking for a promise.

    Raises:
        InvalidInput, NotAllowed: as `read_epoch`.
    """
    if not all((folder / path_of(number, name)).exists() for name in (STATEMENT, MANIFEST)):
        return False
    _, statement, manifest = read_epoch(folder, number, network_key)
    files = (*manifest.files, *statement.files) if records else statement.files
    return all((folder / path_of(number, file.name)).exists() for file in files)


def _follows(folder: Path, statement: Statement) -> bool:
    before = folder / path_of(statement.epoch - 1, STATEMENT)
    if statement.previous == NONE or not before.exists():
        return False
    statement.check_follows(before.read_bytes())
    return True


def _is_there(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def key_of(text: str) -> bytes:
    """Read a network's public key. InvalidInput (`sdk.network_key`) when it is none."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != len(NONE):
        raise InvalidInput(
            "sdk.network_key",
            "A network's key is written in 64 hex digits.",
            "It is public_key of /v1/network; compare it with one from elsewhere.",
        )
    return key
