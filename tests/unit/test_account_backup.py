"""An account's key in a file under a passphrase: it comes back, in the form of other wallets, and not without that."""

from __future__ import annotations

import errno
import getpass
import json
import os
import warnings
from pathlib import Path

import pytest
from coincurve import PrivateKey

from fallow.adapters import keystore
from fallow.adapters.keystore import opened, sealed
from fallow.bootstrap import account_key
from fallow.bootstrap.account_key import back_up, draw_key, restored
from fallow.cli import main
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.wallets import address_of

# The test vector of the format's own page (Web3 Secret Storage Definition), with scrypt.
VECTOR = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262144,
            "r": 1,
            "p": 8,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
CHEAP = 1 << 10
KEY = bytes.fromhex("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d")


@pytest.fixture
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal what opens at once: how long it takes is looked at in one test."""
    monkeypatch.setattr(keystore, "WORK", CHEAP)


def test_a_file_of_another_wallet_opens() -> None:
    assert opened(json.dumps(VECTOR).encode(), "testpassword") == KEY


def test_to_guess_a_passphrase_takes_as_much_as_wallets_have_it_take() -> None:
    asked = json.loads(sealed(KEY, "correct horse battery"))["crypto"]["kdfparams"]
    assert (asked["n"], asked["r"], asked["p"], asked["dklen"]) == (262144, 8, 1, 32)


@pytest.mark.usefixtures("_cheap")
def test_another_passphrase_opens_nothing() -> None:
    backup = sealed(KEY, "correct horse battery")
    assert opened(backup, "correct horse battery") == KEY
    with pytest.raises(NotAllowed, match="passphrase"):
        opened(backup, "another")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        json.dumps({**VECTOR, "version": 9}).encode(),
        json.dumps({**VECTOR, "crypto": {"kdfparams": {"dklen": 1 << 40, "n": 2, "r": 8, "p": 1}}}).encode(),
        json.dumps({**VECTOR, "crypto": {"kdfparams": []}}).encode(),
    ],
)
def test_what_is_no_backup_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        opened(data, "testpassword")


ASKED = {"dklen": 32, "n": 262144, "r": 8, "p": 1, "salt": "ab"}
MUCH = 1 << 30


@pytest.mark.parametrize(
    "asked",
    [
        {**ASKED, "n": MUCH},
        {**ASKED, "p": MUCH},
        {**ASKED, "n": 2, "r": 1, "p": 1 << 22},
        {**ASKED, "n": 2, "r": 1 << 22, "p": 1},
        {"dklen": 32, "N": MUCH, "R": 8, "P": 1, "salt": "ab"},
        {"dklen": 32, "c": MUCH, "prf": "hmac-sha256", "salt": "ab"},
    ],
)
def test_a_file_that_asks_for_too_much_is_refused_before_it_gets_it(asked: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refused:
        opened(json.dumps({**VECTOR, "crypto": {"kdf": "scrypt", "kdfparams": asked}}).encode(), "testpassword")
    assert refused.value.code == "keystore.costly"


@pytest.mark.parametrize("more", [{"Version": 3}, {"CRYPTO": VECTOR["crypto"]}])
def test_a_file_that_says_something_twice_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refused:
        opened(json.dumps({**VECTOR, **more}).encode(), "testpassword")
    assert refused.value.code == "keystore.malformed"


@pytest.mark.usefixtures("_cheap")
def test_a_key_comes_back_and_nothing_is_overwritten(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, backup, passphrase = tmp_path / "key", tmp_path / "backup.json", tmp_path / "passphrase"
    passphrase.write_text("correct horse battery\n")
    words = ["--passphrase-file", str(passphrase), "--json"]

    def run(*arguments: str) -> tuple[int, str]:
        code = main.run(["account", *arguments])
        said = capfd.readouterr()
        return code, said.out + said.err

    account = json.loads(run("new", "--key", str(key), "--json")[1])["account"]
    assert json.loads(run("backup", str(backup), "--key", str(key), *words)[1])["account"] == account
    assert backup.stat().st_mode & 0o077 == 0
    assert key.read_text().strip() not in backup.read_text()
    assert "account.key_exists" in run("backup", str(backup), "--key", str(key), *words)[1]
    assert "account.key_exists" in run("restore", str(backup), "--key", str(key), *words)[1]
    again = tmp_path / "again"
    assert json.loads(run("restore", str(backup), "--key", str(again), *words)[1])["account"] == account
    assert address_of(PrivateKey(bytes.fromhex(again.read_text()))).hex() == account.removeprefix("0x")
    assert again.stat().st_mode & 0o077 == 0

    def echoing(_: str) -> str:
        warnings.warn("Can not control echo on the terminal.", getpass.GetPassWarning, stacklevel=1)
        return "correct horse battery"

    monkeypatch.setattr(getpass, "getpass", echoing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            json.loads(run("restore", str(backup), "--key", str(tmp_path / "piped"), "--json")[1])["account"] == account
        )

    typed = iter(["another one", "correct horse", "correct hearse", "short", "short"])
    monkeypatch.setattr(getpass, "getpass", lambda _: next(typed))
    assert "keystore.passphrase" in run("restore", str(backup), "--key", str(tmp_path / "third"))[1]
    assert not (tmp_path / "third").exists()
    assert "keystore.typed" in run("backup", str(tmp_path / "fourth"), "--key", str(key))[1]
    assert "keystore.short" in run("backup", str(tmp_path / "fourth"), "--key", str(key))[1]
    assert not (tmp_path / "fourth").exists()

    def nobody(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(getpass, "getpass", nobody)
    assert "keystore.typed" in run("backup", str(tmp_path / "fourth"), "--key", str(key))[1]
    assert "keystore.none" in run("restore", str(tmp_path / "fourth"), "--key", str(tmp_path / "fifth"), *words)[1]


@pytest.mark.parametrize(
    "data",
    [b"{", b"[" * 60_000, json.dumps({**VECTOR, "crypto": {"kdfparams": {**ASKED, "n": float("inf")}}}).encode()],
)
def test_errors_have_codes(data: bytes) -> None:
    with pytest.raises(FallowError) as raised:
        opened(data, "x")
    assert raised.value.code == "keystore.malformed"


@pytest.mark.usefixtures("_cheap")
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_key_that_the_disk_does_not_take_leaves_no_file(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a key would be in the way of the next try, and pass for a whole one in a list of files."""
    key, backup = tmp_path / "key", tmp_path / "backup.json"
    draw_key(key)

    def full(_: int) -> None:
        raise error

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        kind = Unavailable if isinstance(error, OSError) else type(error)
        with pytest.raises(kind):
            draw_key(tmp_path / "other")
        with pytest.raises(kind):
            back_up(key, backup, "correct horse battery")
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    assert back_up(key, backup, "correct horse battery") == restored(
        backup, tmp_path / "other", "correct horse battery"
    )


@pytest.mark.usefixtures("_cheap")
def test_a_backup_is_in_its_folder_before_anybody_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power failure could take the file's name, and with it what its holder relies on."""
    synced: list[Path] = []

    def sync(folder: Path) -> None:
        assert (folder / "backup.json").read_bytes()
        synced.append(folder)

    draw_key(tmp_path / "key")
    monkeypatch.setattr(account_key, "sync", sync)
    back_up(tmp_path / "key", tmp_path / "kept" / "backup.json", "correct horse battery")
    assert synced == [tmp_path / "kept"]


def test_a_place_where_no_file_can_be_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"account\.key_not_written"):
        draw_key(tmp_path / "file" / "key")
