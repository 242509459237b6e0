"""Objects of 64 MiB and 4 KiB through the S3 gateway, beside other object stores on the same machine.

One machine runs the network, eight agents that lend disk (any 4 of 8 pieces give the object back) and the client, boto3
and s5cmd. A store acknowledges when the bytes are synced to the disk, or when the system has them in its page cache;
figures compare only within one of the two, and a power failure takes the last seconds of the second. Fallow does both
(`--lend storage=FOLDER:SIZE:cached`).

Beside it, in the same run, one after the other: `rclone serve s3` (cached, one copy), OpenStack Swift with an erasure
coding policy of 4+4 (synced) and Tahoe-LAFS 3-of-10 (cached). Swift and Tahoe-LAFS get an environment of their own
under build/; what cannot be installed is skipped, which is said.

    python bench/storage.py [--only fallow,fallow-cached,rclone,swift,tahoe] [--runs 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from botocore.exceptions import ClientError

from bench._objects import AT_ONCE, S3, Account, Amount, Processes, Speeds, measure, with_tool
from bench._peers import Missing, Served, rclone
from bench._swift import swift
from bench._tahoe import tahoe
from fallow.bootstrap.listening import free_port
from fallow.domain.calls.subscriptions import OpenSubscription
from fallow.sdk.accounts import new_id
from tests.engines import reachable_folder
from tests.network import Running, connected, processes_of, running_network, until_async

NODES = 8
LENT = "4GiB"
LIMIT_MICROUSD = 10_000_000


@contextmanager
def fallow(folder: Path, mode: str) -> Iterator[Served]:
    """A network of eight machines that lend disk; `mode` is what its owners say behind the size."""
    with ExitStack() as stack:
        running = stack.enter_context(running_network(folder / "network"))
        for number in range(NODES):
            # Each machine has a line of its own (127.0.N.1), on which the gateway dials it.
            options = (
                "--lend",
                f"storage={folder}/lent-{number}:{LENT}{mode}",
                "--direct",
                str(free_port("127.0.0.1")),
            )
            stack.enter_context(running.agent(f"disk-{number}", cpu=0.05, memory=32, options=options))
        account = asyncio.run(_subscribed(running))
        yield Served(S3(account), account, Processes(lambda: processes_of(folder), _name))


async def _subscribed(running: Running) -> Account:
    """Wait until objects can be stored; returns what a buyer reaches the gateway with."""
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(connected(running))
        await net.on_market(*running.agents)
        await net.buyer.subscribe(OpenSubscription(id=new_id(), vertical="storage", limit_microusd=LIMIT_MICROUSD))
        signing = await net.buyer.signing_secret()
        endpoint = (await net.buyer.network()).gateways["s3"]
        account = Account(endpoint, signing.access_key, signing.secret, "fallow")
        trying = S3(account, "first")

        def takes_bytes() -> bool:
            try:
                trying.put("first", bytes(1 << 20))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    raise
                return False
            return True

        await until_async(lambda: asyncio.to_thread(takes_bytes), "enough machines lend disk")
        return account


def _name(arguments: list[str]) -> str:
    if "fallow.bootstrap.serve" in arguments:
        return arguments[arguments.index("fallow.bootstrap.serve") + 1]
    return "agents" if "agent" in arguments else Path(arguments[0].split(":")[0]).name if arguments else "?"


class Store(NamedTuple):
    """Something to measure. `says`: what is behind its figures. `synced`: it acknowledges what is on the disk."""

    says: str
    synced: bool
    serve: Callable[[Path], AbstractContextManager[Served]]
    amount: Amount


STORES = {
    "fallow": Store("4 of 8 pieces", synced=True, serve=partial(fallow, mode=""), amount=Amount(5, 40, 160)),
    "fallow-cached": Store(
        "4 of 8 pieces", synced=False, serve=partial(fallow, mode=":cached"), amount=Amount(5, 40, 160)
    ),
    "rclone": Store("one copy", synced=False, serve=rclone, amount=Amount(5, 40, 160)),
    "swift": Store("4 of 8 fragments", synced=True, serve=swift, amount=Amount(5, 40, 160)),
    "tahoe": Store("3 of 10 shares", synced=False, serve=tahoe, amount=Amount(2, 5, 16)),
}


class Goal(NamedTuple):
    """So many times as fast as another store."""

    peer: str
    store: str
    figure: str
    times: float


GOALS = (
    Goal("rclone", "fallow-cached", "large_put_mb_s", 1.0),
    Goal("rclone", "fallow-cached", "large_get_mb_s", 1.0),
    Goal("swift", "fallow", "large_put_mb_s", 1.2),
    Goal("swift", "fallow", "large_get_mb_s", 2.0),
    Goal("swift", "fallow", "small_put_ms", 5.0),
    Goal("swift", "fallow", "small_get_ms", 5.0),
    Goal("tahoe", "fallow-cached", "large_put_mb_s", 10.0),
    Goal("tahoe", "fallow-cached", "large_get_mb_s", 10.0),
)
UNITS = {
    "large_put_mb_s": "MB/s, PUT of 64 MiB",
    "large_get_mb_s": "MB/s, GET of 64 MiB",
    "small_put_ms": "ms, PUT of 4 KiB (p50)",
    "small_get_ms": "ms, GET of 4 KiB (p50)",
    "small_puts_s": f"PUTs of 4 KiB a second, {AT_ONCE} at once",
    "small_gets_s": f"GETs of 4 KiB a second, {AT_ONCE} at once",
    "tool_put_mb_s": "MB/s, s5cmd puts 64 MiB",
    "tool_get_mb_s": "MB/s, s5cmd gets 64 MiB",
}


def measured(name: str, store: Store, runs: int) -> Speeds:
    """Run a store and measure it."""
    with reachable_folder() as folder, store.serve(folder) as served:
        acks = "acknowledges what is synced to the disk" if store.synced else "acknowledges from the page cache"
        print(f"{name}: {store.says}, {acks}", flush=True)
        large = min(runs, store.amount.large)
        found = measure(served.client, store.amount._replace(large=large), served.processes)
        if served.account is not None:
            found = with_tool(served.account, found, large)
    for figure, unit in UNITS.items():
        value = getattr(found, figure)
        if value is not None:
            print(f"  {value:.1f} {unit}", flush=True)
    return found


def results(found: dict[str, Speeds]) -> list[dict[str, object]]:
    """What the command says of all stores: the figures that have a goal, beside the peer that it names."""
    rows: list[dict[str, object]] = []
    for peer, store, figure, times in GOALS:
        if peer not in found or store not in found:
            continue
        value, other = getattr(found[store], figure), getattr(found[peer], figure)
        ratio = other / value if figure.endswith("_ms") else value / other
        rows.append(
            {
                "name": f"storage-{figure.rpartition('_mb')[0] or figure.rpartition('_ms')[0]}-{peer}",
                "value": round(value, 1),
                "unit": f"{UNITS[figure]}; {'synced' if STORES[store].synced else 'page cache'}",
                "baseline": round(other, 1),
                "baseline_name": f"{peer}, {STORES[peer].says}",
                "ratio": round(ratio, 2),
                "goal": times,
                "ok": ratio >= times,
            }
        )
    return rows


def main() -> int:
    """Measure, print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(STORES))
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    found, skipped = dict[str, Speeds](), list[str]()
    for name in options.only.split(","):
        try:
            found[name] = measured(name, STORES[name], options.runs)
        except Missing as missing:
            skipped.append(name)
            print(f"{name}: SKIPPED, cannot be installed here: {missing}", flush=True)
    said = results(found)
    print(f"skipped: {', '.join(skipped) or 'nothing'}")
    print(json.dumps(said))
    return 0 if all(row["ok"] for row in said) else 1


if __name__ == "__main__":
    sys.exit(main())
