"""`fallow job`."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter

from fallow.cli import profiles
from fallow.cli.show import Json, clean, node_name, say, show_json, table
from fallow.cli.units import usd, used, when
from fallow.domain.jobs import ItemState
from fallow.domain.views import ItemView, JobView, LeaseView

app = App(name="job", help="Look at your jobs, or end them.")


@app.command(name="ls")
def list_(*, limit: int = 50, json: Json = False) -> None:
    """List your jobs."""
    with profiles.connect() as client:
        jobs = client.jobs(limit=limit)
    if json:
        show_json(jobs)
        return
    rows = [
        (job.id, job.state, when(job.created_at), _counts(job), used(job.used_ms), usd(job.owed_microusd), job.label)
        for job in jobs
    ]
    columns = ["JOB", "STATE", "CREATED (UTC)", "ITEMS", ">USED", ">OWED", "LABEL"]
    table(columns, rows, empty="You have no jobs. `fallow run PROGRAM.wasm` makes one.")


@app.command
def status(job_id: str, /, *, json: Json = False) -> None:
    """Show one job."""
    with profiles.connect() as client:
        job = client.job(job_id)
    _show(job, as_json=json)


@app.command
def items(job_id: str, /, *, after: int = -1, limit: int = 200, json: Json = False) -> None:
    """List a job's items and the hashes of their results."""
    with profiles.connect() as client:
        found = client.items(job_id, after=after, limit=limit)
    if json:
        show_json(found)
        return
    rows = [
        (
            item.index,
            item.state,
            item.attempts,
            node_name(item.node),
            used(item.used_ms),
            usd(item.owed_microusd),
            item.reason,
        )
        for item in found
    ]
    table([">ITEM", "STATE", ">TRIES", "NODE", ">USED", ">OWED", "REASON"], rows, empty="No items from there on.")


@app.command
def logs(
    job_id: str,
    item: int = 0,
    /,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False,
    stderr: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Print what an item writes while it runs, or wrote.

    Args:
        job_id: the job.
        item: which item of a map.
        follow: go on until it ends.
        stderr: its errors instead of its output.
    """
    with profiles.connect() as client:
        for piece in client.logs(job_id, item, source="stderr" if stderr else "stdout", follow=follow):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@app.command
def cancel(job_id: str, /, *, json: Json = False) -> None:
    """End a job. What it used until then is paid."""
    with profiles.connect() as client:
        job = client.cancel(job_id)
    _show(job, as_json=json)


@app.command
def why(job_id: str, /, *, json: Json = False) -> None:
    """Say why a job waits, failed, or was not scheduled: what became of each lease, and who ended it."""
    with profiles.connect() as client:
        job = client.job(job_id)
        open_items = [item for item in client.all_items(job_id) if item.state != ItemState.DONE]
        leases = client.leases(job_id, limit=1000)
    if json:
        show_json({"job": job, "items": open_items, "leases": leases})
        return
    _show(job, as_json=False)
    if open_items:
        rows = [(item.index, item.state, item.attempts, _reason(item)) for item in open_items]
        table([">ITEM", "STATE", ">TRIES", "WHY"], rows, empty="")
    table(["LEASE", ">ITEM", "NODE", "STATE", "ENDED BY", "WHY"], map(_lease, leases), empty="No node was asked yet.")


def _show(job: JobView, *, as_json: bool) -> None:
    if as_json:
        show_json(job)
        return
    say(f"Job {job.id}: {job.state}" + (f", {clean(job.reason)}" if job.reason else ""))
    say(f"Items: {_counts(job)}. Used {used(job.used_ms)}, owed {usd(job.owed_microusd)}.")
    if job.reserved_microusd:
        say(f"Set aside for open windows: {usd(job.reserved_microusd)}.")


def _counts(job: JobView) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(job.counts.items()) if count)


def _reason(item: ItemView) -> str:
    if item.reason:
        return item.reason
    return "no node has been found for it yet" if item.state == ItemState.WAITING else ""


def _lease(lease: LeaseView) -> tuple[object, ...]:
    by = lease.caused_by if lease.ended_at is not None else ""
    return (lease.id[:12], lease.item, node_name(lease.node), lease.state, by, lease.reason)
