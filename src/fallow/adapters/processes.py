"""Arithmetic in processes of its own: Python runs one thread of a process at a time.

They begin anew instead of as copies of this one, which has threads, and end with what they were begun for. When this
process is killed they end, too, at the latest with the work at hand: what they wait on is gone then.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.pool import Pool
from typing import Any, Final, ParamSpec, TypeVar

from fallow.domain.epochs.parts import Job, Part, Spread
from fallow.domain.errors import Unavailable

PIECE_S: Final = 120
"""A piece of a tree is hashed in a fraction of a second, and a process begins in one or two."""

NICE: Final = 10
"""What a process for which nobody's work waits gives way by."""

_context = multiprocessing.get_context("spawn")

T = TypeVar("T")
P = ParamSpec("P")


@contextmanager
def spread_over(processes: int) -> Iterator[Spread]:
    """Spread the judging of an epoch, and the hashing of its tree, over so many processes while the context is open.

    What is run raises as `in_process`, and so does hashing.
    """
    with ThreadPoolExecutor(processes) as waiting, _context.Pool(processes) as pool:

        def run(work: Callable[[Job], Part], jobs: Iterable[Job]) -> Iterator[Part]:
            return waiting.map(lambda job: in_process(work, job), jobs)

        yield Spread(processes, run, partial(_each_in_time, pool))


def _each_in_time(pool: Pool, work: Callable[[bytes], bytes], pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A pool says nothing of a process that was killed over a piece, and waits for it for ever."""
    found = pool.imap(work, pieces)
    with suppress(StopIteration):
        while True:
            try:
                yield found.next(PIECE_S)
            except multiprocessing.TimeoutError:
                raise _died() from None


def in_process(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """Do a piece of work in a process of its own, and return or raise what it does. Blocks.

    Raises:
        Unavailable: `process.died`: it was killed, as when memory runs out.
    """
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=_answer, args=(theirs, work, given, named))
    process.start()
    theirs.close()
    try:
        done, found = ours.recv()
    except EOFError:
        raise _died() from None
    finally:
        ours.close()
        process.join()
    if not done:
        raise found
    answer: T = found
    return answer


@contextmanager
def found_apart(work: Callable[P, Iterable[T]], *given: P.args, **named: P.kwargs) -> Iterator[Iterator[T]]:
    """Go through what a piece of work finds, one by one, in a process of its own that gives way to all others.

    Where the context ends before the work, that is killed. Going on to the next blocks, and raises as `in_process`.
    """
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=_find, args=(theirs, work, given, named), daemon=True)
    process.start()
    theirs.close()
    try:
        yield _found(ours)
    finally:  # a thread may still read what comes of it: it hears the end, and `ours` is closed with the last of both
        process.kill()
        process.join()


def _found(ours: Connection) -> Iterator[Any]:
    while True:
        try:
            done, found = ours.recv()
        except EOFError:
            raise _died() from None
        if not done:
            raise found
        if not found:
            return
        yield found[0]


def _find(
    to: Connection, work: Callable[..., Iterable[T]], given: tuple[object, ...], named: dict[str, object]
) -> None:
    """Send what is found in a tuple each, and an empty one at the end."""
    os.nice(NICE)
    try:
        for one in work(*given, **named):
            to.send((True, (one,)))
    except Exception as error:  # noqa: BLE001 - whoever asked hears of it
        to.send((False, error))
    else:
        to.send((True, ()))


def _died() -> Unavailable:
    """What whoever waits for a process that was killed is told."""
    return Unavailable("process.died", "A process that computed something has died.", "See the log.")


def _answer(to: Connection, work: Callable[..., T], given: tuple[object, ...], named: dict[str, object]) -> None:
    try:
        found: tuple[bool, object] = True, work(*given, **named)
    except Exception as error:  # noqa: BLE001 - whoever asked hears of it
        found = False, error
    to.send(found)
