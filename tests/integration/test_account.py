"""A machine that earns for an account whose key somebody keeps elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import asyncpg
import pytest

from fallow.domain.delegations import delegation_text
from fallow.domain.identity import address
from fallow.domain.wallets import signer_of
from tests.network import Net, fallow

pytestmark = pytest.mark.xdist_group("network")


async def test_a_machine_joins_for_an_account_whose_key_is_elsewhere(net: Net, tmp_path: Path) -> None:
    holder = {"XDG_CONFIG_HOME": str(tmp_path / "holder")}
    made = await fallow("account", "new", "--json", **holder)
    account = json.loads(made.out)["account"]
    key = Path(json.loads(made.out)["key"])
    assert_private(key)
    again = await fallow("account", "new", **holder)
    assert "account.key_exists" in again.err

    token = (await net.operator.create_token(uses=1)).secret
    machine = ["agent", "join", net.url, "--token", token, "--yes", "--no-start", "--home", str(tmp_path / "machine")]
    # The address alone does not do; the machine says what its holder has to type.
    told = await fallow(*machine, "--account", account)
    assert "agent.account_code" in told.err
    typed = re.search(r"fallow (account bind [0-9a-f]{64} --net \S+)", told.err)
    assert typed is not None
    code = (await fallow(*typed[1].split(), **holder)).out.strip()

    # A code for this machine does nothing for another one.
    other = [*machine[:-1], str(tmp_path / "other")]
    assert "join.account_signature" in (await fallow(*other, "--account", code)).err
    joined = await fallow(*machine, "--account", code, "--json")
    assert json.loads(joined.out)["account"] == account
    connection = await asyncpg.connect(net.running.place["postgres_dsn"])
    try:
        row = await connection.fetchrow(
            "SELECT a.custody_index FROM registry.node n JOIN registry.account a USING (account) WHERE n.account = $1",
            bytes.fromhex(account.removeprefix("0x")),
        )
    finally:
        await connection.close()
    assert row is not None
    assert row["custody_index"] is None, "the network has no key of it"

    # Its holder buys, too: his own key signs that the one which this machine makes signs for him.
    secret = await net.operator.create_key(account=account)
    buyer = {"XDG_CONFIG_HOME": str(tmp_path / "buyer")}
    assert "--account-key" in (await fallow("login", net.url, secret.secret, **buyer)).err
    logged_in = await fallow("login", net.url, secret.secret, "--account-key", str(key), **buyer)
    assert logged_in.code == 0, logged_in.err
    (delegated,) = json.loads((await fallow("key", "signing", "ls", "--json", **buyer)).out)
    text = delegation_text(net.running.net, address(account), bytes.fromhex(delegated["key"]), delegated["expires_at"])
    assert signer_of(text, bytes.fromhex(delegated["account_signature"])) == address(account)
    revoked = await fallow("key", "signing", "revoke", delegated["key"], "--json", **buyer)
    assert json.loads(revoked.out)["revoked_at"]


def assert_private(file: Path) -> None:
    assert file.stat().st_mode & 0o077 == 0
