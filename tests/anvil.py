"""Foundry's chain for tests, from the npm packages of `contracts/`: an EVM of others, with troubles on demand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx2

from fallow.adapters.engines import launch
from tools.write_contracts import CONTRACTS, ROOT

CHAIN_ID = 31337
FIRST_KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
"""Of the first account that it gives coin to; it is the same everywhere, and known to everybody."""


class Anvil:
    """A running chain, and requests to it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, *params: Any) -> Any:
        """The result of a request. Raises AssertionError where it is an error."""
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx2.post(self.url, json=asked, timeout=120).json()
        assert "error" not in answer, answer
        return answer["result"]


@contextmanager
def running_anvil(*options: str) -> Iterator[Anvil]:
    """Run it on a free port while the context is open."""
    subprocess.run(["make", "--silent", "contracts/node_modules/.stamp"], cwd=ROOT, check=True)
    (program,) = CONTRACTS.glob("node_modules/@foundry-rs/anvil-*/bin/anvil")
    mortal = [launch.__file__, "--parent", str(os.getpid()), "--signal", str(int(signal.SIGKILL)), "--"]
    command = [sys.executable, "-I", "-S", *mortal, str(program), "--port", "0", "--chain-id", str(CHAIN_ID), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if line.startswith("Listening on"))
            Thread(target=deque, args=(process.stdout, 0), daemon=True).start()  # or it waits for somebody to read on
            yield Anvil(f"http://{line.split()[-1]}")
        finally:
            process.kill()
