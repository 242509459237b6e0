# /// script
# requires-python = ">=3.11"
# dependencies = ["cbor2>=6.2", "coincurve>=21", "httpx2>=2.16", "pynacl>=1.6", "safe-pysha3>=1.0.7"]
# ///
"""Checks the seeds that an epoch's records show, with nothing of Fallow's code: what was checked is drawn from them.

    python verify_seeds.py ./archive 12 --key <network's key>

A seed is made by the operator, who signs a commitment to his part an epoch of draws ahead, and by validators, who
pledge theirs before anybody shows one. It verifies the commitment, the pledges and the parts that were shown, that they
give the seed which the statement names, and says whose part is in it and whose is missing. Run verify_epoch.py as well:
it verifies the signatures of all records. The exit code is 0 when all of it holds.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
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
FILE_MAX = 1 << 24
NAME = "records/seed.drawn"
BROKEN = (cbor2.CBORError, BadSignatureError, ValueError, KeyError, TypeError, IndexError, EOFError, RecursionError)


def need(holds: object, what: str) -> None:
    """Stop unless something holds."""
    if not holds:
        raise ValueError(what)


def read(place: str, epoch: int, name: str, most: int = FILE_MAX) -> bytes:
    """Read a file of an epoch, from a folder or over HTTP."""
    if not place.startswith(("http://", "https://")):
        return Path(place, "epochs", str(epoch), name).read_bytes()
    data = bytearray()
    with httpx2.stream("GET", f"{place.rstrip('/')}/v1/epochs/{epoch}/files/{name}", timeout=60) as answer:
        for chunk in answer.raise_for_status().iter_bytes():
            data += chunk
            need(len(data) <= most, f"{name} is larger than {most} bytes")
    return bytes(data)


def opened(sealed: bytes, tag: str, key: bytes) -> Map:
    """What a key signed under a tag."""
    body, signature = cbor2.loads(sealed)
    VerifyKey(key).verify(tag.encode() + b"\0" + body, signature)
    return dict(cbor2.loads(body))


def tagged(tag: str, data: bytes) -> bytes:
    """Hash data for one purpose."""
    return hashlib.sha256(tag.encode() + b"\0" + data).digest()


def signer_of(digest: bytes, signature: bytes) -> bytes:
    """Address of whose key signed a digest."""
    recoverable = signature[:64] + bytes([signature[64] - 27])
    public = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    return bytes(keccak_256(public.format(compressed=False)[1:]).digest()[-20:])


def seed_of(net: str, key: bytes, drawn: Map) -> bytes:
    """Make a seed of what was committed to, pledged and shown, and say who had a part in it."""
    number, value, parts = drawn["number"], drawn["value"], dict[bytes, bytes]()
    said = opened(drawn["commitment"], "fallow/check-seed-commitment/1", key)
    fits = tagged("fallow/check-commitment/1", number.to_bytes(8, "big") + value)
    what = f"seed {number} is not the one that the operator committed to"
    need((said["net"], said["number"], said["commitment"]) == (net, number, fits), what)
    seen: set[bytes] = set()
    for raw, part in zip(drawn["pledges"], drawn["parts"], strict=True):
        pledge = cbor2.loads(raw)
        need((pledge["net"], pledge["number"]) == (net, number), f"a pledge in seed {number} belongs to another one")
        signed = b"fallow/seed-pledge/1\0" + cbor2.dumps([net, number, pledge["commitment"]])
        signer = signer_of(bytes(keccak_256(signed).digest()), pledge["signature"])
        need(signer not in seen, f"0x{signer.hex()} pledged two parts of seed {number}")
        seen.add(signer)
        in_it = part and tagged("fallow/seed-part/1", cbor2.dumps([net, number, signer, part])) == pledge["commitment"]
        print(f"seed {number:5} 0x{signer.hex()} {'has its part in it' if in_it else 'pledged, and is NOT in it'}")
        if in_it:
            parts[signer] = part
    if not parts:
        print(f"seed {number:5} is the operator's alone: he knew it beforehand")
        return bytes(value)
    return tagged(
        "fallow/joint-seed/1", cbor2.dumps([net, number, value, [list(one) for one in sorted(parts.items())]])
    )


def drawn_in(source: str, epoch: int, manifest: Map, key: bytes) -> Iterator[Map]:
    """What the network's records say of seeds."""
    file = next((file for file in manifest["files"] if file["name"] == NAME), None)
    data = read(source, epoch, NAME, file["size"]) if file else b""  # nodes can make it as large as they like
    need(file is None or hashlib.sha256(data).digest() == file["sha256"], f"{NAME} is not the file that was named")
    at = 0
    while at < len(data):
        start, at = at + 4, at + 4 + int.from_bytes(data[at : at + 4], "big")
        for raw in cbor2.loads(data[start:at])[2]:
            record = cbor2.loads(raw)
            if record["node"] == key:  # anybody may sign a record of this kind
                yield record["body"]


def verify(options: argparse.Namespace) -> None:
    """Check everything, and say what was found on the way."""
    statement = opened(read(options.source, options.epoch, "statement"), "fallow/statement/1", options.key)
    need(statement["epoch"] == options.epoch, "this is the statement of another epoch")
    raw = read(options.source, options.epoch, "manifest")
    need(hashlib.sha256(raw).digest() == statement["manifest"], "the manifest is not the one that the statement names")
    seeds = [
        seed_of(statement["net"], options.key, drawn)
        for drawn in drawn_in(options.source, options.epoch, cbor2.loads(raw), options.key)
    ]
    need(statement["seed"] == (seeds[-1] if seeds else b""), "the statement names another seed")
    print(f"ALL HOLDS  {len(seeds)} seeds were shown in this epoch" if seeds else "ALL HOLDS  no seed was shown")


def main(words: list[str] | None = None) -> int:
    """Read the command line and verify."""
    parser = argparse.ArgumentParser(description="Check the seeds of a closed epoch without any code of Fallow.")
    parser.add_argument("source", help="folder of the archive, or the network's URL")
    parser.add_argument("epoch", type=int)
    parser.add_argument("--key", type=bytes.fromhex, required=True, help="the network's public key (hex)")
    try:
        verify(parser.parse_args(words))
    except (OSError, httpx2.HTTPError, *BROKEN) as error:
        print(f"WRONG      {type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
