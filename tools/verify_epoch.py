# /// script
# requires-python = ">=3.11"
# dependencies = ["cbor2>=6.2", "coincurve>=21", "httpx2>=2.16", "pynacl>=1.6", "safe-pysha3>=1.0.7"]
# ///
"""Checks a closed epoch of a network with nothing of Fallow's code: its archive, your own RPC, and this file.

    python verify_epoch.py ./archive 12 --key <network's key> --claim 0xACCOUNT 0xASSET
    python verify_epoch.py https://network.example 12 --key <network's key> --rpc http://127.0.0.1:8545

It verifies the network's signature on the statement; every file's hash; signature, promise, place of every batch of
records; that the leaves give the root and add up; that a quorum of validators signed; with --rpc, that the contract
has this very root. What records are worth `fallow epoch audit` recomputes. The exit code is 0 when all of it holds.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import httpx2
from coincurve import PublicKey
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from sha3 import keccak_256

Map = dict[str, Any]
SMALL_MAX, WAITS_MAX = 1 << 20, 60
CLAIMED = "claimed(address,address)"
HALF_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2
ROOT_TYPE = b"Root(uint64 epoch,uint64 revision,bytes32 root,uint96 settlementTotal,uint96 tokenTotal,bytes32 archive)"
DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


class Mismatch(Exception):
    """Something does not hold."""


BROKEN = (cbor2.CBORError, ValueError, KeyError, TypeError, IndexError, EOFError, RecursionError, Mismatch)


def need(holds: object, what: str) -> None:
    """Stop unless something holds."""
    if not holds:
        raise Mismatch(what)


def keccak(data: bytes) -> bytes:
    """Hash as Ethereum does."""
    return bytes(keccak_256(data).digest())


def word(value: int | bytes) -> bytes:
    """32 bytes, as the ABI encodes a number, an address or a hash."""
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


class Source:
    """Files of one epoch, in a folder or over HTTP."""

    def __init__(self, place: str, epoch: int) -> None:
        self._http = place.startswith(("http://", "https://"))
        self._base = f"{place.rstrip('/')}/v1/epochs/{epoch}/files" if self._http else f"{place}/epochs/{epoch}"

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file, piece by piece."""
        if not self._http:
            with Path(self._base, name).open("rb") as file:
                yield from iter(lambda: file.read(1 << 20), b"")
            return
        for waits_left in reversed(range(WAITS_MAX + 1)):
            with httpx2.stream("GET", f"{self._base}/{name}", timeout=60) as answer:
                if answer.status_code != httpx2.codes.TOO_MANY_REQUESTS or not waits_left:
                    yield from answer.raise_for_status().iter_bytes()
                    return
            time.sleep(1)  # the network bounds what one line asks for

    def small(self, name: str) -> bytes:
        """A small file at once."""
        data = bytearray()
        for chunk in self.chunks(name):
            data += chunk
            need(len(data) <= SMALL_MAX, f"{name} is larger than {SMALL_MAX} bytes")
        return bytes(data)

    def checked(self, file: Map) -> Iterator[bytes]:
        """A file that a manifest or statement names: at its end its size and hash are known to be right."""
        digest, size = hashlib.sha256(), 0
        for chunk in self.chunks(file["name"]):
            digest.update(chunk)
            size += len(chunk)
            need(size <= file["size"], f"{file['name']} is longer than it should be")
            yield chunk
        need((size, digest.digest()) == (file["size"], file["sha256"]), f"{file['name']} is not what was named")

    def frames(self, file: Map) -> Iterator[list[Any]]:
        """What a file holds: pieces of CBOR, each behind four bytes of length."""
        waiting = bytearray()
        for chunk in self.checked(file):
            waiting += chunk
            while len(waiting) >= (end := 4 + int.from_bytes(waiting[:4], "big")):
                yield cbor2.loads(bytes(waiting[4:end]))
                del waiting[:end]
        need(not waiting, f"{file['name']} ends within a frame")


def signed_by(key: bytes, tag: str, data: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 key signed data under a tag."""
    try:
        VerifyKey(key).verify(tag.encode() + b"\0" + data, signature)
    except BadSignatureError:
        return False
    return True


def opened(data: bytes, tag: str, key: bytes) -> Map:
    """What a key signed under a tag."""
    body, signature = cbor2.loads(data)
    need(signed_by(key, tag, body, signature), f"a {tag} is not signed by {key.hex()}")
    return dict(cbor2.loads(body))


def merkle_root(leaves: list[bytes]) -> bytes:
    """RFC 6962's tree hash."""
    level = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        pairs = [hashlib.sha256(b"\1" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = [*pairs, level[-1]] if len(level) % 2 else pairs
    return level[0]


def check_batches(source: Source, manifest: Map, key: bytes) -> tuple[int, int]:
    """Put all batches together again; returns how many batches and records there are."""
    files = {file["name"]: file for file in manifest["files"]}
    parts = {name: source.frames(file) for name, file in files.items() if name.startswith("records/")}
    heads = {name: next(frames, None) for name, frames in parts.items()}
    expected: dict[bytes, tuple[int, int]] = {}
    batches = records = 0
    for node, boot, seq, count, signature, promise in source.frames(files["batches"]):
        placed: list[tuple[int, bytes]] = []
        for name, head in heads.items():
            if head is not None and head[0] == batches:
                placed += zip(head[1], head[2], strict=True)
                heads[name] = next(parts[name], None)
        where = f"batch {batches} of node {node.hex()}"
        need(count and sorted(at for at, _ in placed) == [*range(count)], f"{where} lacks records, or has some twice")
        raws = [raw for _, raw in sorted(placed)]
        root, said = merkle_root(raws), opened(promise, "fallow/promise/1", key)
        header = [manifest["net"], node, boot, seq, count, root]
        need(signed_by(node, "fallow/batch/1", cbor2.dumps(header), signature), f"{where} is not signed by that node")
        promised = [said[name] for name in ("net", "node", "boot", "seq", "count", "root", "epoch")]
        need(promised == [*header, manifest["epoch"]], f"{where} has the promise of another batch or epoch")
        for offset, record in enumerate(map(cbor2.loads, raws)):
            named = [record["net"], record["node"], record["boot"], record["seq"]]
            need(named == [*header[:3], seq + offset], f"{where} holds another's record")
        follows = node not in expected or (boot, seq) == expected[node] or (boot > expected[node][0] and seq == 0)
        need(follows, f"{where} does not follow the one before: one was left out, added or moved")
        expected[node] = (boot, seq + count)
        batches, records = batches + 1, records + count
    need(not any(heads.values()), "there are records of batches that are not there")
    return batches, records


def check_leaves(source: Source, statement: Map) -> dict[bytes, int]:
    """Build the tree and add up; returns what is owed by account and asset, 32 bytes each."""
    files = {file["name"]: file for file in statement["files"]}
    data = b"".join(source.checked(files["leaves"])) if "leaves" in files else b""  # nobody is owed anything
    leaves = [data[at : at + 96] for at in range(0, len(data), 96)]
    owed = {leaf[:64]: int.from_bytes(leaf[64:], "big") for leaf in leaves}
    need(len(data) % 96 == 0 and list(owed) == sorted(owed) and len(owed) == len(leaves), "the leaves are not in order")
    left: dict[bytes, int] = {}
    for name in ("settlement", "token"):
        asset, total = word(statement[name]), int.from_bytes(statement[f"{name}_total"], "big")
        left[asset] = left.get(asset, 0) + total
    for pair, amount in owed.items():
        left[pair[32:]] = left.get(pair[32:], 0) - amount
    need(not any(left.values()), "the leaves do not add up to the totals, or are about another asset")
    hashes = sorted((keccak(keccak(leaf)) for leaf in leaves), reverse=True)
    tree = [b""] * (len(hashes) - 1) + hashes
    for place in range(len(hashes) - 2, -1, -1):
        tree[place] = keccak(b"".join(sorted(tree[2 * place + 1 : 2 * place + 3])))
    need(statement["root"] == (tree[0] if tree else bytes(32)), "the leaves do not give the root")
    return owed


def check_votes(source: Source, statement: Map, archive: bytes, validators: list[bytes]) -> int:
    """Count the validators that signed this root: at least a quorum. `archive` is the hash of the statement's file."""
    domain = [keccak(DOMAIN_TYPE), keccak(b"Fallow Distributor"), keccak(b"1")]
    domain += [word(statement["chain_id"]), word(statement["contract"])]
    names = ("epoch", "revision", "root", "settlement_total", "token_total")
    struct = [keccak(ROOT_TYPE), *(word(statement[name]) for name in names), archive]
    digest = keccak(b"\x19\x01" + keccak(b"".join(domain)) + keccak(b"".join(struct)))
    signed = sum(signs(source, validator, digest) for validator in validators)
    quorum = (len(validators) + (len(validators) - 1) // 3) // 2 + 1
    need(signed >= quorum, f"{signed} of {len(validators)} validators signed this root; a quorum is {quorum}")
    return signed


def signs(source: Source, validator: bytes, digest: bytes) -> bool:
    """Whether there is a vote of a validator with its signature. One that is broken or cannot be had is none."""
    try:
        signature = cbor2.loads(source.small(f"votes/0x{validator.hex()}"))["signature"]
        need(int.from_bytes(signature[32:64], "big") <= HALF_ORDER, "contracts refuse the other form")
        key = PublicKey.from_signature_and_message(signature[:64] + bytes([signature[64] - 27]), digest, hasher=None)
    except (OSError, httpx2.HTTPError, *BROKEN):
        return False
    return keccak(key.format(compressed=False)[1:])[-20:] == validator


class Contract:
    """The distributor, by the reader's own RPC."""

    def __init__(self, rpc: str, statement: Map) -> None:
        self._rpc = rpc
        self._to = statement["contract"]
        chain = int(self._ask("eth_chainId"), 16)
        need(chain == statement["chain_id"], f"the RPC is of chain {chain}, the statement says {statement['chain_id']}")

    def call(self, signature: str, *arguments: bytes | int, to: bytes = b"") -> list[bytes]:
        """Call a function; returns the words that it answers."""
        data = keccak(signature.encode())[:4] + b"".join(word(each) for each in arguments)
        answer = self._ask("eth_call", {"to": f"0x{(to or self._to).hex()}", "data": f"0x{data.hex()}"}, "latest")
        raw = bytes.fromhex(answer[2:])
        return [raw[at : at + 32] for at in range(0, len(raw), 32)]

    def _ask(self, method: str, *params: object) -> str:
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx2.post(self._rpc, json=asked, timeout=60).raise_for_status().json()
        need("result" in answer, f"{method} failed: {answer.get('error')}")
        return str(answer["result"])


def verify(options: argparse.Namespace) -> None:
    """Check everything, and say what was found on the way."""
    source = Source(options.source, options.epoch)
    sealed = source.small("statement")
    statement = opened(sealed, "fallow/statement/1", options.key)
    print(f"statement  of epoch {options.epoch} of network {statement['net']} is signed by the network's key")
    raw = source.small("manifest")
    need(hashlib.sha256(raw).digest() == statement["manifest"], "the manifest is not the one that the statement names")
    manifest = cbor2.loads(raw)
    mine = (statement["net"], options.epoch, options.epoch)
    need((manifest["net"], manifest["epoch"], statement["epoch"]) == mine, "the files are of another epoch or network")
    batches, records = check_batches(source, manifest, options.key)
    print(f"records    {records} in {batches} batches: all hashes, signatures and promises hold")
    need(all(sum(map(len, source.checked(file))) == file["size"] for file in statement["files"]), "a file is cut off")
    owed = check_leaves(source, statement)
    print(f"root       0x{statement['root'].hex()} is what the leaves give; totals add up")
    contract, validators = Contract(options.rpc, statement) if options.rpc else None, options.validators
    if contract:
        validators = [each[12:] for each in contract.call("list()", to=contract.call("validators()")[0][12:])[2:]]
    if validators:
        signed = check_votes(source, statement, hashlib.sha256(sealed).digest(), validators)
        alone = ": it is that one's word alone" if len(validators) == 1 else ", which is a quorum"
        print(f"validators {signed} of {len(validators)} signed it{alone}")
    else:
        print("validators none were named: that this epoch is right is its operator's word alone (self-attested)")
    if contract:
        root, activates_at, *_ = contract.call("roots(uint64)", options.epoch)
        need(root == statement["root"], f"the contract has another root for this epoch: 0x{root.hex()}")
        where = f"0x{statement['contract'].hex()} on chain {statement['chain_id']}"
        print(f"chain      {where} has this root, for claims from {int.from_bytes(activates_at, 'big')} (Unix time) on")
    if options.claim:
        account, asset = options.claim
        need({len(account), len(asset)} == {len(statement["contract"])}, "an address has 20 bytes")
        print(f"claim      0x{account.hex()} is owed {owed.get(word(account) + word(asset), 0)} in all", end="")
        print(f", was paid {int.from_bytes(contract.call(CLAIMED, account, asset)[0], 'big')}" if contract else "")


def unhex(text: str) -> bytes:
    """Read hex digits, with or without 0x."""
    return bytes.fromhex(text.removeprefix("0x"))


def main(words: list[str] | None = None) -> int:
    """Read the command line and verify."""
    parser = argparse.ArgumentParser(description="Check a closed epoch without any code of Fallow.")
    parser.add_argument("source", help="folder of the archive, or the network's URL")
    parser.add_argument("epoch", type=int)
    parser.add_argument("--key", type=unhex, required=True, help="the network's public key, as you were told it (hex)")
    parser.add_argument("--validators", type=lambda text: [unhex(each) for each in text.split(",")], default=[])
    parser.add_argument("--rpc", help="JSON-RPC of your own node; the validators are read from the contract then")
    parser.add_argument("--claim", nargs=2, type=unhex, metavar=("ACCOUNT", "ASSET"), help="show what it is owed")
    try:
        verify(parser.parse_args(words))
    except (OSError, httpx2.HTTPError, *BROKEN) as error:
        print(f"WRONG      {type(error).__name__}: {error}")
        return 1
    print("ALL HOLDS  no file is missing, no signed byte was changed, and what the leaves hold is what was signed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
