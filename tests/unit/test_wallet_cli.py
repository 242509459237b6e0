"""`fallow account`: keys that their holders keep, and what they sign."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from coincurve import PrivateKey

from fallow.cli import main
from fallow.domain.bindings import binding_text, read_code
from fallow.domain.sending import Done
from fallow.domain.wallets import address_of, sign_text, signer_of
from tests.unit.canned_client import CannedClient
from tests.unit.own_key import kept_key
from tests.unit.test_custody import ADDRESS, PRIVATE

NODE = "ab" * 32


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return kept_key(tmp_path, monkeypatch, PRIVATE)


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main.run(["account", *words])
    said = capfd.readouterr()
    return code, said.out.strip(), said.err


def test_a_code_is_signed_by_the_key_in_the_file(capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capfd, "bind", NODE, "--net", "lab-1")
    code = read_code(out)
    assert (status, code.account) == (0, ADDRESS)
    assert signer_of(binding_text("lab-1", bytes.fromhex(NODE), ADDRESS, code.before_s), code.signature) == ADDRESS


def test_a_wallet_may_sign(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wallet shows the text on stderr, and gives a signature back; one over another text is not taken."""
    wallet = PrivateKey(b"w" * 32)
    monkeypatch.setattr("fallow.cli.account_key._now_s", lambda: 1_000_000)
    text = binding_text("lab-1", bytes.fromhex(NODE), address_of(wallet), 1_000_060)
    arguments = ["bind", NODE, "--net", "lab-1", "--valid", "60s", "--wallet", "0x" + address_of(wallet).hex()]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"0x{sign_text(wallet, text).hex()}\n"))
    status, out, said = run(capfd, *arguments)
    assert (status, read_code(out).account) == (0, address_of(wallet))
    assert text in said
    for wrong, why in ((sign_text(wallet, text + "!").hex(), "account.other_signer"), ("zz", "account.signature")):
        monkeypatch.setattr("sys.stdin", io.StringIO(wrong + "\n"))
        status, out, said = run(capfd, *arguments)
        assert (status != 0, out, why in said) == (True, "", True)


def test_a_key_that_others_can_read_is_not_used(key: Path, capfd: pytest.CaptureFixture[str]) -> None:
    key.chmod(0o644)
    assert "account.key_exposed" in run(capfd, "bind", NODE, "--net", "lab-1")[2]
    key.chmod(0o600)
    key.write_text("no key\n")
    assert "account.key]" in run(capfd, "bind", NODE, "--net", "lab-1")[2]
    key.unlink()
    assert "account.no_key" in run(capfd, "bind", NODE, "--net", "lab-1")[2]


def test_a_node_is_named_in_full(capfd: pytest.CaptureFixture[str]) -> None:
    assert "identity.malformed" in run(capfd, "bind", NODE[:12], "--net", "lab-1")[2]


@pytest.mark.parametrize(("succeeded", "status"), [(True, 0), (False, 1)])
def test_a_deposit_that_the_contract_refuses_is_no_success(
    client: CannedClient, monkeypatch: pytest.MonkeyPatch, succeeded: bool, status: int
) -> None:
    monkeypatch.setattr("fallow.cli.wallet.with_wallet", lambda *_: Done(b"\x12", 1, succeeded, b""))
    assert main.run(["wallet", "deposit", "10"]) == status
    assert main.run(["wallet", "deposit", "10", "--json"]) == status
    assert [name for name, _ in client.asked] == ["balance", "balance"]
