"""The process that works for a roll call, in several threads for each core: steps on stdout.

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

NICE: Final = 1
"""Just behind everybody else, for a second: far behind, the load of others would hide that nodes share a machine."""

LANES_A_CORE: Final = 2
"""Two threads for each core keep it busy where something else wants it, too."""

MILLI: Final = 1000


def work(challenge: bytes, node: bytes, cpu_milli: int, seconds: float) -> list[bytes]:
    """Do steps for so long, with no more of the processor than was asked for, and return them by number."""
    lanes = LANES_A_CORE * -(-cpu_milli // MILLI)
    share = cpu_milli / MILLI
    numbers, values = itertools.count(), dict[int, bytes]()
    begun, used = time.monotonic(), time.process_time()

    def lane() -> None:
        while (elapsed := time.monotonic() - begun) < seconds:
            ahead = (time.process_time() - used) / share - elapsed
            if ahead > 0:
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
