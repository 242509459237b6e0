"""Batches: how records are signed, and what the network promises on receiving them.

One Ed25519 signature covers the Merkle root of a batch, so that a single record can later be shown with its path and
without its neighbours. A batch is made once and sent as the same bytes until a promise for it came back: its
sender's key, boot and first sequence number are its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import msgspec

from fallow.domain.encoding import decode, decode_again, decode_all_again, encode
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.identity import verify
from fallow.domain.merkle import merkle_root
from fallow.domain.records import Count, Record, convert, decode_records
from fallow.domain.signing import Sign, Signed, signed_message

BATCH_TAG = "fallow/batch/1"
BATCH_RECORDS_MAX = 512
BATCH_BYTES_MAX = 512 << 10


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    net: str
    node: bytes
    boot: Count
    seq: Count
    records: list[bytes]
    sig: bytes


class Batch(NamedTuple):
    """A batch whose signature and inner order were checked. `data` are the exact bytes that came in."""

    net: str
    node: bytes
    boot: int
    seq: int
    records: tuple[Record, ...]
    root: bytes
    data: bytes


class Parts(NamedTuple):
    """What a batch consists of beside its network: what it says of itself, the bytes of its records, its signature."""

    node: bytes
    boot: int
    seq: int
    records: Sequence[bytes]
    sig: bytes


class _Given(msgspec.Struct, frozen=True):
    at: Count


class Promise(Signed, frozen=True, kw_only=True):
    """The network's word that the archive of `epoch` will hold a batch. An archive without it is the proof of a lie."""

    tag: ClassVar[str] = "fallow/promise/1"
    net: str
    epoch: int
    node: bytes
    boot: int
    seq: int
    count: int
    root: bytes
    at: int

    def covers(self, batch: Batch) -> bool:
        """Whether it was given for exactly this batch."""
        mine = (self.net, self.node, self.boot, self.seq, self.count, self.root)
        return mine == (batch.net, batch.node, batch.boot, batch.seq, len(batch.records), batch.root)


def promised_at(sealed: bytes) -> int:
    """When a promise was given, in milliseconds since 1970. Whose word it is was found when it was verified.

    Raises:
        InvalidInput: it is none.
    """
    (envelope,) = decode_all_again([sealed])
    body, _ = convert(envelope, tuple[bytes, bytes], "promise.malformed")
    return convert(decode_all_again([body])[0], _Given, "promise.malformed").at


def seal_batch(records: Sequence[Record], sign: Sign) -> bytes:
    """Sign consecutive records of one node and boot. `sign` is the node's key.

    Raises:
        InvalidInput: none or too many records, or not consecutive ones of one node and boot.
    """
    encoded = [record.encode() for record in records]
    _check_order(records)
    first = records[0]
    root = merkle_root(encoded)
    sig = sign(_message(first.net, first.node, first.boot, first.seq, len(encoded), root))
    data = join_batch(first.net, Parts(first.node, first.boot, first.seq, encoded, sig))
    if len(data) > BATCH_BYTES_MAX:
        raise InvalidInput("batch.too_large", f"A batch has at most {BATCH_BYTES_MAX} bytes, not {len(data)}.")
    return data


def open_batch(data: bytes, *, net: str) -> Batch:
    """Read a batch and check everything about it that needs no state: form, order, network, signature.

    Raises:
        InvalidInput: malformed, oversized, out of order, or of another network.
        NotAllowed: the signature is not by the node that the batch names.
    """
    if len(data) > BATCH_BYTES_MAX:
        raise InvalidInput("batch.too_large", f"A batch has at most {BATCH_BYTES_MAX} bytes, not {len(data)}.")
    envelope = convert(decode(data), _Envelope, "batch.malformed")
    if envelope.net != net:
        raise InvalidInput("batch.network", f"The batch is for network {envelope.net[:40]!r}, this is {net!r}.")
    root = merkle_root(envelope.records)
    header = (envelope.net, envelope.node, envelope.boot, envelope.seq)
    if not verify(envelope.node, _message(*header, len(envelope.records), root), envelope.sig):
        raise NotAllowed("batch.signature", "The batch is not signed by the node that it names.")
    records = tuple(decode_records(envelope.records))
    _check_order(records)
    first = records[0]
    if (first.net, first.node, first.boot, first.seq) != header:
        raise InvalidInput("batch.header", "The batch's head does not fit its first record.")
    return Batch(*header, records, root, data)


def split_batch(data: bytes) -> Parts:
    """Take a batch apart that was checked when it was written; `join_batch` makes the same bytes of the parts again."""
    envelope = convert(decode_again(data), _Envelope, "batch.malformed")
    return Parts(envelope.node, envelope.boot, envelope.seq, envelope.records, envelope.sig)


def join_batch(net: str, parts: Parts) -> bytes:
    """Make the bytes of a batch. Whether they are a good one is for `open_batch` to say."""
    return encode({"net": net, **parts._asdict(), "records": list(parts.records)})


def stored_records(data: bytes) -> list[Record]:
    """Records of a batch that was checked when it was written: neither its signature nor its form is checked again."""
    envelope = convert(decode_again(data), _Envelope, "batch.malformed")
    return convert(decode_all_again(envelope.records), list[Record], "record.malformed")


def _message(net: str, node: bytes, boot: int, seq: int, count: int, root: bytes) -> bytes:
    return signed_message(BATCH_TAG, encode([net, node, boot, seq, count, root]))


def _check_order(records: Sequence[Record]) -> None:
    if not 1 <= len(records) <= BATCH_RECORDS_MAX:
        raise InvalidInput("batch.count", f"A batch has 1 to {BATCH_RECORDS_MAX} records, not {len(records)}.")
    first = records[0]
    for offset, record in enumerate(records):
        if (record.net, record.node, record.boot, record.seq) != (
            first.net,
            first.node,
            first.boot,
            first.seq + offset,
        ):
            raise InvalidInput("batch.order", "A batch holds consecutive records of one node and boot.")
