"""A day of the whole field: a signed reading of each of 41,800,000 devices, metered and scored.

The readings lie in the files that ingest's closing writes, exact signed bytes: 256 devices share a gateway, which signs
them as one batch. Measured is what closing makes of the files: every record read, judged by a vertical that comes in
through the plugin seam (`bench/_devices.py`), counted for its node, each node scored; lines, state, leaves and root
made. The vertical looks at each node alone, so that it is run in as many processes as there are processors.

Beside it: the time to verify again every batch's signature and promise, on as many processes, and how the time grows
from a hundredth of the records to all of them (the exponent; 1 is linear).

    python bench/records.py [--records 41800000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cbor2
from nacl.signing import SigningKey

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench._devices import DAY_MS, DeviceReading, Devices
from fallow.adapters.processes import spread_over
from fallow.domain.batches import BATCH_TAG, Parts, Promise, join_batch
from fallow.domain.encoding import encode
from fallow.domain.epochs.closing import Closing, close_filed
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.filing import Filing
from fallow.domain.epochs.manifest import Manifest, path_of
from fallow.domain.epochs.parts import FiledEpoch
from fallow.domain.epochs.reading import Share, check_batch, read_batches
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import NOTHING, write_state
from fallow.domain.merkle import merkle_root
from fallow.domain.records import make_record
from fallow.domain.signing import signed_message
from fallow.sdk.epochs import read_file

NET = "field"
DEVICES = 41_800_000
A_NODE = 256
DAY = 20_000
GOAL_S, GOAL_GB = 300.0, 8.0
CHUNK = 64
NETWORK = SigningKey(bytes(32))
NETWORK_KEY = bytes(NETWORK.verify_key)
PROCESSES = os.cpu_count() or 1


class Took(NamedTuple):
    """What it took: seconds, seconds of processors, GB of memory of all processes at most, and to verify again."""

    records: int
    s: float
    used_s: float
    gb: float
    verify_s: float


def node_key(number: int) -> SigningKey:
    """A made-up gateway's key."""
    return SigningKey(number.to_bytes(32))


def reading(number: int, device: int) -> DeviceReading:
    """What a device has measured."""
    measured_ms = DAY * DAY_MS + (number * 7919 + device * 337_000) % DAY_MS
    return DeviceReading(device=device, measured_ms=measured_ms, watt_hours=(number + device * 977) % 30_000)


def raw_records(number: int, node: bytes, devices: int) -> list[bytes]:
    """A gateway's records as they are signed; the first is made as agents make them, the others are as it is."""
    record, _ = make_record(
        reading(number, 0), net=NET, node=node, boot=1, seq=0, at=DAY * DAY_MS, new_salt=lambda: bytes(32)
    )
    fields = cbor2.loads(record.encode())
    raws = []
    for device in range(devices):
        made = reading(number, device)
        fields["seq"] = device
        fields["body"] |= {"device": device, "measured_ms": made.measured_ms, "watt_hours": made.watt_hours}
        raws.append(cbor2.dumps(fields))
    assert raws[0] == record.encode()
    return raws


def batches_of(numbers: range, records: int) -> list[tuple[bytes, bytes]]:
    """What some gateways have sent, and been promised."""
    made = []
    for number in numbers:
        key = node_key(number)
        node = bytes(key.verify_key)
        raws = raw_records(number, node, min(A_NODE, records - (number - 1) * A_NODE))
        root = merkle_root(raws)
        sig = key.sign(signed_message(BATCH_TAG, encode([NET, node, 1, 0, len(raws), root]))).signature
        promise = Promise(
            net=NET, epoch=DAY, node=node, boot=1, seq=0, count=len(raws), root=root, at=DAY * DAY_MS
        ).seal(lambda message: NETWORK.sign(message).signature)
        made.append((join_batch(NET, Parts(node, 1, 0, raws, sig)), promise))
    return made


def numbered(records: int) -> list[range]:
    """The gateways of so many devices, some at a time."""
    nodes = -(-records // A_NODE)
    return [range(start, min(start + CHUNK, nodes + 1)) for start in range(1, nodes + 1, CHUNK)]


def write_files(folder: Path, records: int, made: Iterable[list[tuple[bytes, bytes]]]) -> Manifest:
    """File what came in, as the closing role does."""
    filing = Filing(NET, DAY, {DeviceReading.kind})
    with ExitStack() as stack:
        files = {}
        for some in made:
            for data, promise in some:
                for piece in filing.add(data, promise):
                    if piece.name not in files:
                        path = folder / path_of(DAY, piece.name)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        files[piece.name] = stack.enter_context(path.open("wb"))
                    files[piece.name].write(piece.data)
    manifest = filing.manifest()
    assert sum(file.count for file in manifest.record_files) == records
    return manifest


def opening_of(records: int) -> bytes:
    """The state of the epoch before: each gateway is bound to an account."""
    nodes = (number for some in numbered(records) for number in some)
    owners = {bytes(node_key(number).verify_key): number.to_bytes(20) for number in nodes}
    return write_state(NOTHING._replace(owners=owners))


def closed(folder: Path, manifest: Manifest, opening: bytes, processes: int) -> Closing:
    """Meter and score."""
    epoch = Epoch(NET, DAY, (DAY + 1) * DAY_MS, NETWORK_KEY)
    filed = FiledEpoch(epoch, manifest, partial(read_file, folder, DAY))
    with spread_over(processes) as spread:
        return close_filed(opening, filed, Rules(), {Devices.name: Devices()}, spread)


def verify_part(folder: Path, manifest: Manifest, share: Share) -> int:
    """Verify again what some gateways signed and were promised."""
    count = 0
    for filed in read_batches(manifest, partial(read_file, folder, DAY)):
        if share.has(filed.parts.node):
            count += len(check_batch(filed, manifest, NETWORK_KEY).records)
    return count


def verified_s(folder: Path, manifest: Manifest, records: int) -> float:
    """Seconds to verify all of it again."""
    began = time.monotonic()
    shares = [Share(frozenset(), part, PROCESSES) for part in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        assert sum(pool.map(partial(verify_part, folder, manifest), shares)) == records
    return time.monotonic() - began


def used_s() -> float:
    """Processor seconds so far, of processes that have ended among them."""
    return sum(each.ru_utime + each.ru_stime for each in usages())


def usages() -> Iterator[resource.struct_rusage]:
    """What this process and those that it started have used."""
    return map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(folder: Path, records: int) -> Took:
    """Make the files of so many records, close their epoch, verify them again."""
    began = time.monotonic()
    opening = opening_of(records)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        manifest = write_files(folder, records, pool.imap(partial(batches_of, records=records), numbered(records)))
    size = sum(file.size for file in manifest.files)
    print(f"{records:,} records, {size / 1e9:.2f} GB, made in {time.monotonic() - began:.0f} s", flush=True)
    began, used = time.monotonic(), used_s()
    closing = closed(folder, manifest, opening, PROCESSES)
    took_s, used = time.monotonic() - began, used_s() - used
    assert sum(line.units for line in closing.folded.lines) == records
    assert len(closing.folded.lines) == sum(map(len, numbered(records)))
    ours, largest_child = (each.ru_maxrss * 1024 / 1e9 for each in usages())
    gb = ours + PROCESSES * largest_child
    print(
        f"  metered and scored in {took_s:.1f} s ({records / took_s:,.0f}/s), {used:.0f} s of processors, {gb:.1f} GB"
    )
    verify_s = verified_s(folder, manifest, records)
    print(
        f"  {manifest.file('batches').count:,} signatures and promises verified again in {verify_s:.1f} s", flush=True
    )
    return Took(records, took_s, used, gb, verify_s)


def main() -> int:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=DEVICES)
    parser.add_argument("--folder", type=Path, default=None, help="for 7 GB of files, which are removed at the end")
    options = parser.parse_args()
    found = []
    for records in (options.records // 100, options.records // 10, options.records):
        with tempfile.TemporaryDirectory(prefix="fallow-bench-", dir=options.folder) as name:
            found.append(measure(Path(name), records))
    few, _, most = found
    exponent = math.log(most.s / few.s) / math.log(most.records / few.records)
    print(
        f"{most.records / few.records:.0f} times the records take {most.s / few.s:.0f} times as long: n^{exponent:.2f}"
    )
    result = {
        "name": "records",
        "value": round(most.s, 1),
        "unit": f"s for {most.records:,} records, metered and scored",
        "baseline": round(most.verify_s, 1),
        "baseline_name": "verifying all their batches' signatures and promises again, in s",
        "ratio": round(most.s / most.verify_s, 2),
        "goal": GOAL_S,
        "memory_gb": round(most.gb, 2),
        "exponent": round(exponent, 2),
        "ok": most.s <= GOAL_S and most.gb <= GOAL_GB,
    }
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
