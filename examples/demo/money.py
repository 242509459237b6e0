"""The demo's money: what the buyer deposits, and how one owner's earnings come to a wallet whose key he keeps."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fallow import AsyncClient
from fallow.domain.views.votes import RootView

PATIENCE_S = 30.0
LOOK_S = 0.5
GIVEN_USD, DEPOSITED_USD = 20, 10
USD = 1_000_000


class Typed(NamedTuple):
    """Types commands of `fallow` against a network, each with the key of who types it."""

    fallow: Path
    folder: Path
    network: Mapping[str, Any]

    def __call__(self, *words: str, who: str, api_key: str = "") -> Any:  # noqa: ANN401 - any JSON value
        """What a command answers.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        said = subprocess.run(
            [str(self.fallow), *words, "--json"], env=self._environment(who, api_key),
            capture_output=True, text=True, check=True, timeout=PATIENCE_S,
        )  # fmt: skip
        return json.loads(said.stdout)

    def _environment(self, who: str, api_key: str) -> dict[str, str]:
        key = str(self.folder / f"{who}.key")
        return {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "FALLOW_ACCOUNT_KEY": key} | {
            "FALLOW_URL": self.network["url"],
            "FALLOW_API_KEY": api_key or self.network["operator_key"],
        }


def deposit(typed: Typed) -> str:
    """Give the buyer test dollars on the chain, of which he deposits some; returns the transaction."""
    wallet = typed("wallet", "new", who="buyer")["account"]
    typed("chain", "give", wallet, str(GIVEN_USD), "--data", str(typed.folder / "network"), who="buyer")
    done = typed("wallet", "deposit", str(DEPOSITED_USD), who="buyer", api_key=typed.network["buyer_key"])
    return str(done["transaction"])


async def credited(buyer: AsyncClient) -> None:
    """Wait until what was deposited is credits."""
    async with asyncio.timeout(PATIENCE_S):
        while (await buyer.balance()).spendable["paid"] < DEPOSITED_USD * USD:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(LOOK_S)


def sign_for(typed: Typed, name: str, join: Sequence[str]) -> str:
    """Let an owner who keeps his key take a machine that has not joined yet as his own; returns the code for it."""
    account = typed("account", "new", who=name)["account"]
    told = subprocess.run([*join, "--no-start", "--account", account], capture_output=True, text=True, check=False)
    command = re.search(r"fallow (account bind [0-9a-f]{64} --net \S+)", told.stderr)
    assert command is not None, told.stderr
    return str(typed(*command[1].split(), who=name)["code"])


async def on_chain(operator: AsyncClient, epoch: int) -> RootView:
    """Wait until an epoch's root is on the chain."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await operator.votes(epoch)).published
            if found is not None and found.root:
                return found
            await asyncio.sleep(LOOK_S)
