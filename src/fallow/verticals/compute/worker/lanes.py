"""The process that works for a roll call: one thread for each core, steps on stdout.

A process of its own, so that it can be killed at once, and that keeps behind everybody else on the machine. It loads
the steps and nothing else.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from typing import Final

from fallow.verticals.compute.core.steps import step

NICE: Final = 10
"""As far behind as sold work is: what is measured is what a lease would get."""

MILLI: Final = 1000


def work(challenge: bytes, node: bytes, cpu_milli: int, seconds: float) -> list[bytes]:
    """Do steps for so long, with no more of the processor than was asked for, and return them by number."""
    lanes = -(-cpu_milli // MILLI)
    share = cpu_milli / MILLI / lanes
    numbers, values = itertools.count(), dict[int, bytes]()
    begun = time.monotonic()

    def lane() -> None:
        own = time.thread_time()
        while (elapsed := time.monotonic() - begun) < seconds:
            ahead = (time.thread_time() - own) / share - elapsed
            if share < 1 and ahead > 0:
                time.sleep(min(ahead, seconds - elapsed))
            else:
                number = next(numbers)
                values[number] = step(challenge, node, number)

    threads = [threading.Thread(target=lane) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [values[number] for number in range(len(values))]


def main() -> None:
    """Read challenge, node, thousandths of a core and milliseconds from the command line."""
    challenge, node, cpu_milli, work_ms = sys.argv[1:]
    os.nice(NICE)
    found = work(bytes.fromhex(challenge), bytes.fromhex(node), int(cpu_milli), int(work_ms) / MILLI)
    sys.stdout.buffer.write(b"".join(found))


if __name__ == "__main__":
    main()
