"""The demo: a whole network on this machine does real, paid work, loses machines on the way, and shows its books.

The buyer pays with what he has deposited on the network's chain. At its end an epoch closes, is computed again from its
archive by programs that trust nobody, and one owner has what he earned paid into his own wallet.

    make demo                  and then look around; Ctrl-C ends it
    make demo ARGS=--once      end by itself: 0 all parts ran and held, 3 a part cannot run here, 1 otherwise

Everything here is what any operator, provider and buyer can do: the commands of `fallow`, and its Python client.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fallow import AsyncClient, FallowError, Requirements
from fallow.sdk.bills import Bill

HERE = Path(__file__).parent
PATHTRACER = HERE.parent / "pathtracer"
sys.path[:0] = [str(HERE), str(PATHTRACER)]
from money import DEPOSITED_USD, Typed, credited, deposit, on_chain, sign_for  # noqa: E402 - an example beside this one
from objects import OWNERS, Lost, store_objects  # noqa: E402 - an example beside this one
from photos import PHOTOS, Spoiled, develop  # noqa: E402 - an example beside this one
from stitch import Tile, read_ppm, stitch, write_png  # noqa: E402 - an example beside this one
from validators import WRONG, Validator, judge, make_validators, sign_wrongly  # noqa: E402 - an example beside this one

FALLOW = Path(sys.executable).with_name("fallow")
OUTPUT = Path("demo-output")
AGENTS = ("barn", "mill", "orchard", "cellar")
KILLED, LIAR, OWN_KEY = "barn", "cellar", "mill"
WIDTH, HEIGHT, SAMPLES, COLUMNS, ROWS = 480, 320, 36, 6, 4
PICTURE_SHA256 = "32b93d4fcf39daf38c975f7722cc0c8c51b8b3ad9f45638618693ff5fce5fb7c"
"""SHA-256 of the picture's pixels: programs are deterministic here, so it is the same on every machine."""
SHARE_MILLI = 1000 * (os.cpu_count() or 1) // len(AGENTS)
CORES = ("--cpu", str(SHARE_MILLI / 1000), "--memory", "512", "--price-core-hour", "0.02")
START_S = 30.0
USD, TOKEN = 1_000_000, 10**18
SHOWN_LINES = 12

console = Console(highlight=False)


class Failed(Exception):
    """Something did not hold."""


def main() -> int:
    """Run the demo; returns the exit code."""
    once = "--once" in sys.argv[1:]
    began = time.monotonic()
    left_out = None
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fallow-demo-")))
            folder.chmod(0o711)  # the engines run as an unprivileged user, who has to pass through
            validators = make_validators(FALLOW, folder)
            network = stack.enter_context(running_network(folder, validators))
            typed = Typed(FALLOW, folder, network)
            deposited = stack.enter_context(ThreadPoolExecutor()).submit(deposit, typed)
            agents = {
                name: stack.enter_context(running_agent(folder, network, typed, name))
                for name in sorted(AGENTS, key=lambda name: name == OWN_KEY)
            }
            homes = [folder / name for name in AGENTS]
            left_out = asyncio.run(work(network, agents, homes, deposited))
            store_objects(typed, partial(running_agent, folder, network, typed), PHOTOS, folder, console)
            asyncio.run(check_books(network))
            asyncio.run(close_the_epoch(network, folder, validators, typed))
            console.print(f"\nDone in {time.monotonic() - began:.0f} s.")
            if left_out:
                console.print(f"[yellow]Left out:[/] {left_out}")
            if not once:
                stay_open(network)
    except (Failed, Spoiled, Lost, FallowError) as failure:
        console.print(f"[bold red]The demo failed:[/] {failure}")
        return 1
    return 3 if left_out else 0


@contextmanager
def running_network(folder: Path, validators: Sequence[Validator]) -> Iterator[dict[str, Any]]:
    """`fallow up`, as an operator types it. Settings name whose votes count, and grant the buyer nothing."""
    console.rule("[bold]FALLOW_PRESET=public fallow up[/]: PostgreSQL, message bus, a chain of its own, all roles")
    command = [str(FALLOW), "up", "--data", str(folder / "network"), "--port", "0", "--bus-port", "0", "--json"]
    settings = {"PRESET": "public", "CHAIN_PORT": "0", "TEST_CREDITS_USD": "0", "ACTIVATION_S": "0"}
    settings["VALIDATORS"] = ",".join(each.address for each in validators)
    environment = os.environ | {f"FALLOW_{name}": value for name, value in settings.items()}
    with child(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise Failed("fallow up ended by itself")
        network: dict[str, Any] = json.loads(line)
        console.print(f"Network {network['net']} is up at {network['url']}, its chain at {network['chain_url']}")
        yield network


@contextmanager
def running_agent(
    folder: Path, network: dict[str, Any], typed: Typed, name: str, offers: Sequence[str] = CORES
) -> Iterator[subprocess.Popen[str]]:
    """`fallow agent join`, as an owner types it. Each offers a share of this machine that no other one offers.

    One owner keeps his account's key himself, and signs for his machine; the network keeps the others'.
    """
    log = folder / f"{name}.log"
    program = [sys.executable, str(HERE / "liar.py")] if name == LIAR else [str(FALLOW)]
    command = [*program, "agent", "join", network["url"], "--token", network["join_token"], "--yes"]
    command += ["--home", str(folder / name), "--label", name, *offers]
    command += ["--from", f"127.0.{(*AGENTS, *OWNERS).index(name) + 1}.1"]  # as if each were behind a line of its own
    if name == OWN_KEY:
        command += ["--account", sign_for(typed, name, command)]
    with log.open("w") as sink, child(command, stdout=sink, stderr=sink) as process:
        yield process


@contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401 - Popen's own
    """A process that ends with the demo."""
    with subprocess.Popen(command, text=True, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


async def work(
    network: dict[str, Any], agents: Mapping[str, subprocess.Popen[str]], homes: Sequence[Path], deposited: Future[str]
) -> str | None:
    """Deposit money, buy a picture, lose an agent, refuse a liar, develop photographs, check the books.

    Returns what could not be done on this machine and why, or None.
    """
    async with (
        AsyncClient(network["url"], network["buyer_key"]) as buyer,
        AsyncClient(network["url"], network["operator_key"]) as operator,
    ):
        await pay_in(buyer, deposited)
        await everybody_here(buyer)
        order_id = await render(buyer, agents)
        left_out = await photographs(buyer, homes)
        await show_bill(buyer, order_id)
        await show_earnings(buyer, operator)
    return left_out


async def photographs(buyer: AsyncClient, homes: Sequence[Path]) -> str | None:
    """Run a Python script with a bundled dependency over real photographs; None when that worked, else why not."""
    console.rule("[bold]a map over 6 photographs[/]: a Python script, in sandboxes without network")
    problem = await develop(buyer, OUTPUT, cpu_milli=SHARE_MILLI, homes=homes)
    if problem is None:
        console.print(f"Contact sheet: [bold]{(OUTPUT / 'photos.png').resolve()}[/]")
    return problem


async def pay_in(buyer: AsyncClient, deposited: Future[str]) -> None:
    """Wait until what the buyer has deposited on the chain is credits."""
    console.rule("[bold]fallow wallet deposit[/]: the settlement asset, here test dollars, becomes paid credits")
    transaction = await asyncio.wrap_future(deposited)
    await credited(buyer)
    console.print(f"{DEPOSITED_USD} USD deposited by transaction {transaction}", soft_wrap=True)


async def everybody_here(buyer: AsyncClient) -> None:
    """Wait until all agents have joined."""
    console.rule("[bold]fallow agent join[/]: four owners offer a share of their machines")
    async with asyncio.timeout(START_S):
        while len(nodes := await buyer.nodes()) < len(AGENTS):  # noqa: ASYNC110 - joining is no event of a buyer's
            await asyncio.sleep(0.1)
    table = Table("machine", "node", "cores", "memory", "USD per core and hour", "benchmark")
    for node in sorted(nodes, key=lambda node: node.label):
        assert node.total is not None
        assert node.terms is not None
        price = node.terms.price_microusd_per_core_hour / USD
        cores = f"{node.total.cpu_milli / 1000:g}"
        score = node.attributes.get("score.cpu", "-")
        table.add_row(node.label, node.node[:12], cores, f"{node.total.memory_mib} MiB", f"{price:.3f}", score)
    console.print(table)


async def render(buyer: AsyncClient, agents: Mapping[str, subprocess.Popen[str]]) -> str:
    """Path-trace a picture as a map over its tiles; one machine lies, one is cut off in the middle of it."""
    console.rule("[bold]a map over 24 tiles[/]: a WASM path tracer on other people's machines")
    items = [f"{x} {y} {x + 80} {y + 80} {WIDTH} {HEIGHT} {SAMPLES}".encode() for x, y in tiles()]
    order = await buyer.wasm_order(
        PATHTRACER / "pathtracer.wasm",
        items=items,
        requirements=Requirements(cpu_milli=SHARE_MILLI, memory_mib=128, disk_mib=64),
        time_limit_s=300,
        label="a fallow field at dusk",
    )
    quote = await buyer.quote(order)
    assert quote.price_microusd_per_hour is not None
    price = quote.price_microusd_per_hour / USD
    console.print(f"Quote: {len(quote.candidates)} machines, from {price:.4f} USD an hour each. {quote.plain_data}")
    await buyer.submit(order)
    done: list[Tile] = []
    moved: set[int] = set()
    names = {node.node: node.label for node in await buyer.nodes()}
    with progress_bar() as bar:
        task = bar.add_task("tiles", total=len(items), now="")

        def watch(event: Any) -> None:  # noqa: ANN401 - a JobView or a JobEvent
            reason = getattr(event, "reason", "")
            item = getattr(event, "item", None)
            if item is not None and reason.startswith("node.") and item not in moved:
                moved.add(item)
                bar.console.print(f"  tile {item} moves to another machine: {reason}")

        async for result in buyer.results(order.id, watch=watch):
            if not result.ok:
                raise Failed(f"tile {result.index} failed: {result.reason}")
            done.append(read_ppm(await result.output("tile.ppm")))
            bar.update(task, advance=1, now=f"last one by {names.get(result.item.node or '', '?')}")
            if len(done) == len(items) // 3:
                bar.console.print(f"  [yellow]kill -9 {KILLED}[/]: its owner pulls the plug")
                agents[KILLED].send_signal(signal.SIGKILL)
    keep_picture(done)
    if not moved:
        raise Failed("an agent was killed and no tile moved")
    return order.id


def tiles() -> list[tuple[int, int]]:
    """Upper left corners."""
    return [(x * WIDTH // COLUMNS, y * HEIGHT // ROWS) for y in range(ROWS) for x in range(COLUMNS)]


def progress_bar() -> Progress:
    """Tiles done of all, and how long it takes."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[now]}"), console=console)


def keep_picture(done: list[Tile]) -> None:
    """Put the tiles together and compare with what they must give."""
    width, height, pixels = stitch(done)
    OUTPUT.mkdir(exist_ok=True)
    picture = OUTPUT / "picture.png"
    picture.write_bytes(write_png(width, height, pixels))
    if hashlib.sha256(pixels).hexdigest() != PICTURE_SHA256:
        raise Failed(f"the picture {picture} is not the one that this program computes on every machine")
    console.print(f"Picture: [bold]{picture.resolve()}[/] ({width} x {height}), every pixel as expected.")


async def show_bill(buyer: AsyncClient, job_id: str) -> None:
    """What the buyer paid, and for what."""
    console.rule("[bold]fallow bill[/]")
    job = await buyer.job(job_id)
    leases = await buyer.leases(job_id)
    checked = [item async for item in buyer.all_items(job_id) if item.checked]
    unpaid = Counter(lease.reason for lease in leases if lease.caused_by == "provider")
    console.print(
        f"{job.counts['done']} tiles, {job.used_ms / 1000:.1f} s of {SHARE_MILLI / 1000:g} core each:"
        f" {job.owed_microusd / USD:.6f} USD, out of what was deposited.\n"
        f"{len(checked)} tiles were computed again by another owner's machine, at the network's cost, and agreed.\n"
        f"{len(leases)} leases; nobody pays for these: "
        + (", ".join(f"{count} x {reason}" for reason, count in unpaid.items()) or "-")
    )
    console.print(compared(await buyer.bill(job_id)))
    balance = await buyer.balance()
    if any(balance.reserved.values()):
        raise Failed(f"money is still reserved after the job: {balance.reserved}")


def compared(bill: Bill) -> str:
    """What the delivered core-seconds cost here and elsewhere, replicas and restarts included, in one line."""
    elsewhere = "; ".join(f"{each.name} {each.cost_microusd / USD:.6f} ({each.as_of})" for each in bill.elsewhere)
    return (
        f"{bill.core_s:.1f} core-seconds delivered for {bill.owed_microusd / USD:.6f} USD of a test network;"
        f" by published prices the same costs: {elsewhere} USD."
    )


async def show_earnings(buyer: AsyncClient, operator: AsyncClient) -> None:
    """What each provider earned from buyers, and what his results have shown."""
    console.rule("[bold]earnings[/]: from usage; tokens for it come with the close of the epoch")
    table = Table("machine", "paid USD", "TEST USD", "incentive", "confirmed", "wrong", "trust")
    nodes = {node.label: node for node in await buyer.nodes()}
    for name in AGENTS:
        node = nodes[name]
        earned = (await operator.balance_of(node.account)).earned
        wrong = f"[red]{node.wrong}[/]" if node.wrong else "0"
        money = (f"{earned[kind] / USD:.6f}" for kind in ("paid", "granted"))
        table.add_row(name, *money, "at the close", str(node.confirmed), wrong, node.trust)
        if name == LIAR and (any(earned.values()) or not node.wrong):
            raise Failed(f"the liar was paid {earned} and found wrong {node.wrong} times")
        if name != LIAR and node.wrong:
            raise Failed(f"{name} is honest and was found wrong")
    console.print(table)
    for evidence in (await operator.evidence())[-1:]:
        own = next(vote for vote in evidence.votes if vote.lease == evidence.lease)
        others = {vote.result for vote in evidence.votes if vote.lease != evidence.lease}
        console.print(
            f"Refused: {LIAR} said {str(own.result)[:16]}…,"
            f" {len(evidence.votes) - 1} other owners' machines {', '.join(str(other)[:16] for other in others)}…"
        )


async def check_books(network: dict[str, Any]) -> None:
    """The ledger's own audit."""
    console.rule("[bold]fallow ledger check[/]")
    async with AsyncClient(network["url"], network["operator_key"]) as operator:
        check = await operator.ledger_check()
    console.print(f"{check.transfers} transfers recomputed; debits minus credits per class: {check.sums}")
    if not check.ok or any(check.sums.values()):
        raise Failed(f"the ledger does not add up: {check.problems}")


async def close_the_epoch(network: dict[str, Any], folder: Path, validators: Sequence[Validator], typed: Typed) -> None:
    """End the epoch; others compute from its records what everybody is owed; an owner has it paid."""
    console.rule("[bold]fallow epoch close[/]: what everybody is owed, for anybody to recompute")
    url = network["url"]
    async with AsyncClient(url, network["operator_key"]) as operator:
        epoch = await operator.closed_epoch((await operator.end_epoch()).epoch)
        key = (await operator.network()).public_key
        node = next(node for node in await operator.nodes() if node.label == OWN_KEY)
        console.print(f"Epoch {epoch.epoch} is closed: {epoch.records} signed records in {epoch.batches} batches.")
        number, there = str(epoch.epoch), ["--from", url, "--into", str(folder / "archive"), "--key", key]
        checked(f"fallow epoch audit {number}", [str(FALLOW), "epoch", "audit", number, *there])
        explain = [str(FALLOW), "epoch", "explain", number, node.node, *there]
        checked(f"fallow epoch explain {number} ({OWN_KEY})", explain)
        console.print("[bold]fallow validator run[/], by each of three; a fourth signs what it likes")
        for said in judge(FALLOW, folder, url, key, validators):
            console.print(f"  {said}", soft_wrap=True)
        sign_wrongly(folder / "archive", url, key, epoch.epoch, validators)
        votes = await operator.votes(epoch.epoch)
        if not votes.decided or len(votes.wrong) != 1:
            raise Failed(f"three of four validators are honest, and the votes are {votes}")
        refused = f"  {WRONG}: its root is none that the records give. It counts for nothing, and is kept as evidence."
        console.print(refused, soft_wrap=True)
        root = await on_chain(operator, epoch.epoch)
        console.print(
            f"Their signatures bring the root to the chain, in transaction {root.transaction}", soft_wrap=True
        )
        contracts = (await operator.network()).contracts
    assert contracts is not None
    console.rule(f"[bold]fallow claim --all[/]: {OWN_KEY}'s owner has what he earned paid into his wallet")
    paid = typed("claim", "--all", who=OWN_KEY)
    claim = ["--claim", node.account, contracts.settlement]
    verifier = [sys.executable, str(HERE.parents[1] / "tools" / "verify_epoch.py"), url, number, "--key", key]
    title = "tools/verify_epoch.py, without any code of Fallow, against the chain"
    checked(title, [*verifier, "--rpc", network["chain_url"], *claim])
    show_claim(paid, node.account)


def show_claim(paid: dict[str, Any], account: str) -> None:
    """The last lines: the balance, the transaction, and what all of this proves to whom."""
    console.rule("[bold]what this proves[/]")
    (usage, _), held = paid["accounts"][0]["assets"], int(paid["balance"]["settlement"])
    if not held or int(usage["claimed"]) != held:
        raise Failed(f"the claim is not in the wallet: {paid}")
    tokens = f"{int(paid['balance']['token']) / TOKEN:.6f} tokens"
    console.print(f"Balance      {held / USD:.6f} test dollars for usage, {tokens} as incentive, in {OWN_KEY}'s wallet")
    console.print(f"             {account}")
    console.print(f"Transaction  {paid['transactions'][0]}", soft_wrap=True)
    console.print("Checked by   tools/verify_epoch.py: the claim is a leaf of the root that a quorum signed; all holds")
    console.print(
        "To whoever keeps these files: that the sums follow from what machines and network signed, and that three of"
        " four validators computed the same and the contract paid by it. To outsiders no more than that: here chain and"
        " validators all run on this machine, so it is its operator's word (self-attested). On a network of yours the"
        " validators are other people's, and a chain of others is what makes it independent.",
        soft_wrap=True,
    )


def checked(title: str, command: Sequence[str]) -> None:
    """Run a command of somebody who checks, and show what it says; one that does not hold fails the demo."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)
    console.print(f"[bold]{title}[/]")
    lines = ended.stdout.splitlines()
    more = [f"… and {len(lines) - SHOWN_LINES} more"] if len(lines) > SHOWN_LINES else []
    said = "".join(f"  {line}\n" for line in lines[:SHOWN_LINES] + more)
    console.print(said, end="", markup=False, soft_wrap=True)
    if ended.returncode:
        raise Failed(f"{title}: {ended.stdout[-500:]} {ended.stderr[-500:]}")


def stay_open(network: dict[str, Any]) -> None:
    """Leave the network running until Ctrl-C."""
    url, key = network["url"], network["buyer_key"]
    console.rule("The network stays open. Ctrl-C ends it.")
    console.print(f"  in a browser: {url}")
    console.print(f"  export FALLOW_URL={url} FALLOW_API_KEY={key}", soft_wrap=True)
    console.print("  .venv/bin/fallow nodes\n  .venv/bin/fallow job ls\n  .venv/bin/fallow bill")
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("Stopping.")


if __name__ == "__main__":
    sys.exit(main())
