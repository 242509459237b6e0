"""What a client of an object store sees of its speed, and what its processes take meanwhile."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import boto3
import psutil
from botocore.client import Config

LARGE_BYTES = 64 << 20
SMALL_BYTES = 4 << 10
AT_ONCE = 8
BIN = Path(sys.executable).parent
ANSWER_S = 120


class Account(NamedTuple):
    """Where a store answers in S3's words, and with which keys."""

    endpoint: str
    access_key: str
    secret: str
    region: str = "us-east-1"


class Client(Protocol):
    """Stores and fetches under names."""

    def put(self, name: str, body: bytes) -> None:
        """Store; returns once it is acknowledged."""
        ...

    def get(self, name: str) -> bytes:
        """Fetch."""
        ...


class S3:
    """A `Client` by boto3, in one bucket, which it makes."""

    def __init__(self, account: Account, bucket: str = "bench") -> None:
        self._bucket = bucket
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=account.endpoint,
            aws_access_key_id=account.access_key,
            aws_secret_access_key=account.secret,
            region_name=account.region,
            config=Config(
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                max_pool_connections=AT_ONCE,
                read_timeout=ANSWER_S,
            ),
        )
        self._s3.create_bucket(Bucket=bucket)

    def put(self, name: str, body: bytes) -> None:
        """See `Client`."""
        self._s3.put_object(Bucket=self._bucket, Key=name, Body=body)

    def get(self, name: str) -> bytes:
        """See `Client`."""
        return bytes(self._s3.get_object(Bucket=self._bucket, Key=name)["Body"].read())


class Speeds(NamedTuple):
    """What was measured: medians. The last two are of s5cmd, its start included; None where it cannot be used."""

    large_put_mb_s: float
    large_get_mb_s: float
    small_put_ms: float
    small_get_ms: float
    small_puts_s: float
    small_gets_s: float
    tool_put_mb_s: float | None = None
    tool_get_mb_s: float | None = None


class Amount(NamedTuple):
    """How much to measure: objects of 64 MiB; of 4 KiB one after the other; of 4 KiB, eight at a time."""

    large: int
    serial: int
    many: int


Processor = Callable[[], Mapping[str, float]]
"""Processor seconds so far, by the program that took them."""


def measure(client: Client, amount: Amount, processor: Processor) -> Speeds:
    """Measure a store; prints where processor time goes. All that is fetched is compared with what was stored.

    No two objects are the same; the first of each size is not counted.
    """
    rest = os.urandom(LARGE_BYTES)[1:]
    bodies = [bytes([number]) + rest for number in range(amount.large + 1)]
    client.put("large-first", bodies[-1])
    client.put("small-first", rest[-SMALL_BYTES:])

    def put_large(number: int) -> None:
        client.put(f"large-{number}", bodies[number])

    def get_large(number: int) -> None:
        _same(client.get(f"large-{number}"), bodies[number])

    def body_of(number: int) -> bytes:
        return bodies[0][number * SMALL_BYTES : (number + 1) * SMALL_BYTES]

    def put_small(number: int) -> None:
        client.put(f"small-{number}", body_of(number))

    def get_small(number: int) -> None:
        _same(client.get(f"small-{number}"), body_of(number))

    serial, many = range(amount.serial), range(amount.serial, amount.serial + amount.many)
    with _told("PUT 64 MiB", processor, amount.large):
        large_put = _median_s(put_large, range(amount.large))
    with _told("GET 64 MiB", processor, amount.large):
        large_get = _median_s(get_large, range(amount.large))
    with _told("PUT 4 KiB", processor, amount.serial):
        small_put = _median_s(put_small, serial)
    with _told("GET 4 KiB", processor, amount.serial):
        small_get = _median_s(get_small, serial)
    return Speeds(
        LARGE_BYTES / large_put / 1e6,
        LARGE_BYTES / large_get / 1e6,
        1000 * small_put,
        1000 * small_get,
        _a_second(put_small, many),
        _a_second(get_small, many),
    )


def with_tool(account: Account, speeds: Speeds, runs: int, bucket: str = "bench") -> Speeds:
    """Add what s5cmd does with files of 64 MiB, which it sends in parts, and fetches in parts."""
    environment = {
        "AWS_ACCESS_KEY_ID": account.access_key,
        "AWS_SECRET_ACCESS_KEY": account.secret,
        "AWS_REGION": account.region,
        "S3_ENDPOINT_URL": account.endpoint,
        "HOME": os.devnull,
    }
    with tempfile.TemporaryDirectory(prefix="fallow-bench-") as folder:
        there, back = Path(folder, "there"), Path(folder, "back")
        there.write_bytes(os.urandom(LARGE_BYTES))

        def copy(source: object, target: object) -> None:
            command = [str(BIN / "s5cmd"), "cp", str(source), str(target)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr)

        put = _median_s(lambda number: copy(there, f"s3://{bucket}/tool-{number}"), range(runs))
        get = _median_s(lambda number: copy(f"s3://{bucket}/tool-{number}", back), range(runs))
        _same(back.read_bytes(), there.read_bytes())
    return speeds._replace(tool_put_mb_s=LARGE_BYTES / put / 1e6, tool_get_mb_s=LARGE_BYTES / get / 1e6)


class Processes:
    """Processor time of processes that are found anew each time, by names; those that end are not forgotten."""

    def __init__(self, find: Callable[[], Iterable[int]], name: Callable[[list[str]], str]) -> None:
        self._find = find
        self._name = name
        self._seen: dict[int, tuple[str, float]] = {}

    def __call__(self) -> dict[str, float]:
        """See `Processor`; what this process itself takes is the client's."""
        mine = psutil.Process().cpu_times()
        for pid in self._find():
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                used, name = process.cpu_times(), self._name(process.cmdline())
                self._seen[pid] = name, used.user + used.system
        sums = {"client": mine.user + mine.system}
        for name, seconds in self._seen.values():
            sums[name] = sums.get(name, 0.0) + seconds
        return sums


@contextmanager
def _told(what: str, processor: Processor, count: int) -> Iterator[None]:
    """Print what processes take of the processor in a while, for each of so many."""
    before = processor()
    yield
    taken = {name: used - before.get(name, 0.0) for name, used in processor().items()}
    order = sorted(taken.items(), key=lambda item: -item[1])
    parts = (f"{name} {1000 * used / count:.0f}" for name, used in order if 1000 * used >= count)
    print(f"  processor ms for each {what}: {', '.join(parts)}", flush=True)


def _median_s(work: Callable[[int], None], numbers: Iterable[int]) -> float:
    taken = []
    for number in numbers:
        began = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _a_second(work: Callable[[int], None], numbers: Iterable[int]) -> float:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        began = time.perf_counter()
        done = len(list(pool.map(work, numbers)))
        return done / (time.perf_counter() - began)


def _same(found: bytes, stored: bytes) -> None:
    if found != stored:
        raise AssertionError("what was fetched is not what was stored")
