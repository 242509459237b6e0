"""What the commands print: for people with colours and tables, for machines one JSON document."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, validators
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fallow.cli.reader import Reader
from fallow.cli.units import usd, used
from fallow.domain.errors import KINDS, FallowError
from fallow.domain.views.base import ErrorView
from fallow.domain.views.jobs import JobView, QuoteView
from fallow.domain.views.money import TEST_CLASS, BalanceView

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print one JSON document.")]

ENTRIES_MAX = 1000
Limit = Annotated[
    int, Parameter(help="How many at most, the latest ones.", validator=validators.Number(gte=1, lte=ENTRIES_MAX))
]

PORT_MAX = 65_535

NODE_CHARACTERS = LEASE_CHARACTERS = 12
PIPE_CHARACTERS = 250

LINE_CHARACTERS_MAX = 10_000
WHOLE = 0.9
"""Of the width that a table's longest words take: with less than that it is none any more."""

STYLES = {"done": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def out() -> Console:
    """Where results go. What is not a terminal gets lines as long as they are."""
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_CHARACTERS
    return Reader(highlight=False, width=wide)


def err() -> Console:
    """Where progress and explanations go, so that a program's own output stays clean."""
    return Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """Print a line of the result."""
    out().print(line, markup=False, soft_wrap=True)


def tell(line: str) -> None:
    """Print a line about the result."""
    err().print(line, markup=False, soft_wrap=True)


def tell_cut(count: int, limit: int) -> None:
    """Say that a list may have been cut."""
    if count >= limit:
        tell(f"These are the latest {count}. There may be more: see --limit.")


def say_s3(endpoint: str, access_key: str, secret_key: str, ca: str = "") -> None:
    """Print what S3 clients find a gateway by, for a shell to read (`eval`): what a network says is words there.

    `ca` is the file of the network's own authority, where it has one.
    """
    for name, value in (
        ("AWS_ENDPOINT_URL", endpoint),
        ("S3_ENDPOINT_URL", endpoint),  # the one that s5cmd reads: without it that asks Amazon
        ("AWS_ACCESS_KEY_ID", access_key),
        ("AWS_SECRET_ACCESS_KEY", secret_key),
        ("AWS_REGION", "fallow"),
        ("AWS_DEFAULT_REGION", "fallow"),  # the one that boto3 and the aws cli of Python read
        *((("AWS_CA_BUNDLE", ca),) if ca else ()),
    ):
        say(f"export {name}={shlex.quote(clean(value))}")


def show_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def show_error(error: FallowError, *, as_json: bool) -> None:
    """Print what happened, and what to do next."""
    if as_json:
        kind = next((name for name, kind in KINDS.items() if isinstance(error, kind)), "Unavailable")
        show_json(ErrorView(kind=kind, code=error.code, message=error.message, hint=error.hint))
        return
    line = Text.assemble(("Error: ", "bold red"), _cleaned_lines(error.message), (f"  [{error.code}]", "dim"))
    err().print(line, soft_wrap=True)
    if hint := HINTS.get(error.code, error.hint):
        tell(_cleaned_lines(hint))


HINTS = {
    "http.invalid": "See with --help what each argument takes. If yours are right, update this command: "
    "it is not of the network's version.",
    "storage.condition": "There is such an object already, and who may write and not delete replaces none.",
}
"""In place of hints for those who write requests themselves."""


def clean(text: str) -> str:
    """Take control characters out of what a stranger wrote: a terminal would obey them."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _cleaned_lines(text: str) -> str:
    return "\n".join(map(clean, text.split("\n")))


def cell(value: object) -> Text:
    """One cell of a table, never read as markup."""
    text = clean(str(value))
    return Text(text, style=STYLES.get(text, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table, or a sentence when it has no rows. A column that begins with > is set to the right."""
    found = [[cell(value) for value in row] for row in rows]
    if not found:
        say(empty)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        side: JustifyMethod = "right" if column.startswith(">") else "left"
        # The first column names the thing: it must be whole to be of use.
        shown.add_column(column.lstrip(">"), justify=side, overflow="fold", no_wrap=number == 0)
    for row in found:
        shown.add_row(*row)
    console = out()
    least = Measurement.get(console, console.options.update(max_width=LINE_CHARACTERS_MAX), shown).minimum
    if console.width < WHOLE * least:
        _show_below(console, [column.lstrip(">") for column in columns], found)
    else:
        console.print(shown)


def _show_below(console: Console, heads: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Print each row as lines: where a table has no room its words would be cut to pieces."""
    wide = max(map(len, heads))
    for number, row in enumerate(rows):
        if number:
            console.print()
        for head, value in zip(heads, row, strict=True):
            if value.plain:
                console.print(Text.assemble((f"{head:{wide}}  ", "bold"), value), soft_wrap=True)


def node_name(node: str | None) -> str:
    """Short form of a node's id."""
    return (node or "")[:NODE_CHARACTERS]


def lease_name(lease: str) -> str:
    """Short form of a lease's id."""
    return lease[:LEASE_CHARACTERS]


def quote_line(quote: QuoteView) -> str:
    """Say in one line what a quote says."""
    if not quote.candidates:
        waits = "it waits until one can"
        if "budget" in quote.why_not:
            waits = "it fails if no machine of the network ever can for so small a budget"
        return f"No node can take this now ({why_not(quote) or 'the network has none'}); {waits}."
    price = usd(quote.price_microusd_per_hour or 0)
    able = f"{len(quote.candidates)} of {quote.nodes_total} nodes can take this"
    return f"{able}, from {price}/h{_other_price(quote)}; {usd(quote.deposit_microusd)} is set aside{_results(quote)}."


def _results(quote: QuoteView) -> str:
    """Say how many results are bought, where it is more than one."""
    ways = {"exact": "compared byte for byte", "tolerance": "compared by your tolerance"}
    if quote.replicas == 1 or quote.compare not in ways:
        return ""
    few = f"; only {quote.owners} owners on different networks could give one now" * (quote.owners < quote.replicas)
    return f" for each of {quote.replicas} results of an item, {ways[quote.compare]}; differing ones take more{few}"


def _other_price(quote: QuoteView) -> str:
    """Say what it would cost the other way, where that is another price."""
    ways = {"on demand": quote.on_demand_microusd_per_hour, "as spot": quote.spot_microusd_per_hour}
    others = {way: price for way, price in ways.items() if price not in {None, quote.price_microusd_per_hour}}
    return "".join(f" ({way} from {usd(price or 0)}/h)" for way, price in others.items())


def why_not(quote: QuoteView) -> str:
    """Say what turns nodes away, and how many."""
    return ", ".join(f"{name}: {count}" for name, count in sorted(quote.why_not.items()))


def bill_line(job: JobView, node: str | None, balance: BalanceView | None) -> str:
    """Say in one line what a job used and what it costs."""
    test = " TEST" if balance is not None and balance.pays_with_test else ""
    where = f" on {node_name(node)}" if node else ""
    return f"{used(job.used_ms)}, {usd(job.owed_microusd)}{test}{where}, job {job.id}"


def job_lines(job: JobView) -> Iterator[str]:
    """Say how a job stands."""
    yield f"Job {job.id}: {job.state}" + (f", {clean(job.reason)}" if job.reason else "")
    budget = f" of a budget of {usd(job.budget_microusd)}" if job.budget_microusd is not None else ""
    time = used(job.used_ms + job.running_ms)
    yield f"Items: {item_counts(job)}. Used {time}, owed {usd(job.owed_microusd)}{budget}."
    if job.trust:
        yield f"Machines: {', '.join(f'{count} {level}' for level, count in job.trust.items())}."
    if job.reserved_microusd:
        yield f"Set aside for open windows: {usd(job.reserved_microusd)}."


def item_counts(job: JobView) -> str:
    """Say how many items of a job are in which state."""
    return ", ".join(f"{count} {state}" for state, count in sorted(job.counts.items()) if count)


def credit_name(credit_class: str) -> str:
    """Name a class of credits, TEST credits as such."""
    return "TEST (granted)" if credit_class == TEST_CLASS else credit_class


def fields(value: msgspec.Struct) -> dict[str, Any]:
    """Return a view as what JSON has."""
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found
