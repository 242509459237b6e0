"""What all commands share: errors, profiles, units, how they start."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from fallow.bootstrap.settings import CORE
from fallow.cli import main, profiles, show, units
from fallow.cli.profiles import Profile
from fallow.domain.errors import FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.domain.views.network import NetworkView
from fallow.sdk.signing import BuyerKey
from tests.unit.canned_client import CannedClient
from tests.unit.fake_network import BUYER

# errors


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unavailable("x.y", "It is [b]away[/b].", "Wait."), 1), (InvalidInput("x.y", "It is [b]away[/b].", "Wait."), 2)],
)
def test_an_error_is_a_sentence_and_a_hint(
    client: CannedClient, error: FallowError, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    client.fails = error
    assert main.run(["balance"]) == code
    out, err = capfd.readouterr()
    assert (out, err) == ("", "Error: It is [b]away[/b].  [x.y]\nWait.\n")
    assert main.run(["balance", "--json"]) == code
    out, err = capfd.readouterr()
    assert (json.loads(out)["code"], err) == ("x.y", "")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOENT, 2), (errno.EACCES, 2), (errno.ENOSPC, 1), (errno.EMFILE, 1)]
)
def test_only_what_was_typed_is_blamed_on_who_typed(
    client: CannedClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    """With exit code 2 nothing was sent; a disk may be full when all is bought and done."""

    def fails() -> None:
        raise OSError(number, os.strerror(number), "results/out")

    monkeypatch.setattr(client, "balance", fails)
    assert main.run(["balance"]) == code
    assert f"results/out: {os.strerror(number)}." in capfd.readouterr().err


def test_an_error_of_several_lines_keeps_them_and_obeys_nobody(
    client: CannedClient, capfd: pytest.CaptureFixture[str]
) -> None:
    client.fails = Unavailable("x.y", "Not to be had:\nno such package\x1b[2J")
    assert main.run(["balance"]) == 1
    assert capfd.readouterr().err == "Error: Not to be had:\nno such package\ufffd[2J  [x.y]\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("job status ../account", "job.id"),
        ("job cancel 0", "job.id"),
        ("job why \ud800", "job.id"),
        ("job items %0a", "job.id"),
        ("key revoke ../tokens", "key.id"),
        ("credit grant 0x 1", "identity.malformed"),
        ("credit grant 0x" + "0" * 40 + " 1e400", "cli.number"),
        ("wallet deposit 0", "cli.number"),
        ("wallet withdraw 0.009999", "cli.number"),
        ("wallet burn 0", "cli.number"),
        ("price report 0", "cli.number"),
        ("price accept 0", "cli.number"),
        ("credit grant 0x" + "0" * 40 + " nan", "cli.number"),
        ("login ftp://host key", "sdk.url"),
        ("login http://:80 key", "sdk.url"),
        ("login http://127.0.0.1:1 kéy", "sdk.key"),
        ("login https://host key --ca sha256:short", "tls.pin"),
        ("login https://host", "login.key"),
        ("login https://host key --ca /nowhere/ca.pem", "tls.ca_file"),
        ("token new --valid never", "cli.duration"),
        ("wallet use 8453 --rpc rpc.example", "wallet.rpc_url"),
        ("account payout 0x12", "identity.malformed"),
        ("epoch broken /dev/null --key " + "0" * 64, "promise.evidence"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    line: str, code: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FALLOW_URL", "http://127.0.0.1:1")  # nobody is there: who asks is told that it is unreachable
    monkeypatch.setenv("FALLOW_API_KEY", "fk_x")
    assert main.run([*line.split(), "--json"]) == 2
    out, err = capfd.readouterr()
    error = json.loads(out)
    assert (error["kind"], error["code"], err) == ("InvalidInput", code, "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--retries 11", "Expected `int` <= 10 - at --retries"),
        ("--replicas 0", "Expected `int` >= 1 - at --replicas"),
        ("--time-limit 0", "Expected `int` >= 1 - at --time-limit, in seconds"),
        ("--label " + "x" * 81, "Expected `str` of length <= 80 - at --label"),
        ("--cpu 0", "Expected `int` >= 1 - at --cpu, in thousandths"),
        ("--max-price 99999999999", "at --max-price, in millionths"),
        ("--near 52.52,13.40 --within-km 99999", "at --within-km"),
        ("--compare tolerance --rtol 1e-6 --replicas 1", "results within a tolerance are compared"),
    ],
)
def test_what_nobody_could_sell_is_said_in_the_words_of_the_options(
    options: str, said: str, client: CannedClient, program: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", *options.split(), str(program)]) == 2
    err = capfd.readouterr().err
    assert said in err
    assert "$" not in err
    assert not [name for name, _ in client.asked if name in {"wasm_order", "submit", "run"}]


def test_what_the_network_cannot_read_is_said_to_who_typed_and_to_who_programs(
    client: CannedClient, capfd: pytest.CaptureFixture[str]
) -> None:
    client.fails = InvalidInput("http.invalid", "The request is not valid: amount: no number.", "See /schema.")
    assert main.run(["balance"]) == 2
    err = capfd.readouterr().err
    assert "amount" in err
    assert "--help" in err
    assert "/schema" not in err


def test_unknown_commands_are_explained(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["frobnicate"]) == 2
    assert "frobnicate" in capfd.readouterr().err


# profiles


def test_a_profile_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    path = profiles.profile_path(env)
    profiles.save(Profile("https://a.example", 'k"ey'), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert profiles.load(env) == Profile("https://a.example", 'k"ey')
    profiles.save(Profile("https://b.example", "other"), path)
    assert profiles.load(env).url == "https://b.example"
    assert [each.name for each in path.parent.iterdir()] == ["profile.toml"]


def test_a_network_that_one_has_logged_in_to_is_trusted_without_a_key_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FALLOW_URL", "FALLOW_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    profiles.save(Profile("https://a.example", "key", ca="certificate"), profiles.profile_path())
    found = [profiles.profile_at(url, None) for url in ("https://a.example", "https://b.example", "")]
    assert found[2].api_key == "key"
    assert found[:2] == [Profile("https://a.example", "", ca="certificate"), Profile("https://b.example", "")]


def test_the_environment_comes_first_and_keys_stay_with_their_network(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    with pytest.raises(NotAllowed) as raised:
        profiles.load(env)
    assert "fallow login" in raised.value.hint
    profiles.save(Profile("https://a.example", "stored"), profiles.profile_path(env))
    assert profiles.load(env | {"FALLOW_API_KEY": "given"}) == Profile("https://a.example", "given")
    assert profiles.load(env | {"FALLOW_URL": "https://b.example", "FALLOW_API_KEY": "b"}).url == "https://b.example"
    with pytest.raises(NotAllowed):
        profiles.load(env | {"FALLOW_URL": "https://b.example"})
    profiles.profile_path(env).write_text("url = ")
    with pytest.raises(InvalidInput):
        profiles.load(env)


class LoginClient(CannedClient):
    """Notes which network it was made for."""

    made: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, url: str, key: str, *, ca: object = None, **_: object) -> None:
        super().__init__()
        assert ca is None
        self.made.append((url, key))
        if key == "wrong":
            self.fails = NotAllowed("auth.key", "The API key is not valid.")
        if key == "operator":
            self.fails = NotAllowed("scope.missing", "This API key may not buy.")

    def network(self) -> NetworkView:
        """A network that it can log in to."""
        return NetworkView(net="lab-1", public_key="", bus_url="", preset="lab", version="1")


def test_who_waits_for_the_network_is_told_so(capfd: pytest.CaptureFixture[str]) -> None:
    with profiles.client_of(Profile("http://127.0.0.1:1", "fk_x")) as client:
        client._client._patience.told(Unavailable("sdk.unreachable", "Nobody \x1b[31m answers."))
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "Waiting for the network at http://127.0.0.1:1 (Ctrl-C ends it): Nobody \ufffd[31m answers.\n"


@pytest.mark.parametrize(("key", "code"), [("buyer", 0), ("operator", 0), ("wrong", 1)])
def test_login_keeps_a_key_that_the_network_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, code: int
) -> None:
    monkeypatch.setattr("fallow.cli.profiles.Client", LoginClient)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main.run(["login", "https://a.example/", key]) == code
    assert LoginClient.made[-1] == ("https://a.example", key)
    assert profiles.profile_path().exists() == (code == 0)
    if code == 0:
        signing_key = BuyerKey(b"k" * 32, BUYER, "lab-1").text if key == "buyer" else ""
        assert profiles.load() == Profile("https://a.example", key, signing_key=signing_key)
        monkeypatch.setenv("FALLOW_API_KEY", "another account's")
        assert profiles.load().signing_key == ""


# units


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00 USD"),
        (1, "0.000001 USD"),
        (12_500, "0.0125 USD"),
        (1_500_000, "1.50 USD"),
        (-1_230, "-0.00123 USD"),
        (1_234_567_890_000, "1,234,567.89 USD"),
    ],
)
def test_money_has_two_to_six_digits(amount: int, text: str) -> None:
    assert units.usd(amount) == text
    assert units.microusd(text.removesuffix(" USD").replace(",", "").lstrip("-")) == abs(amount)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)])
def test_durations(text: str, seconds: int) -> None:
    assert units.seconds(text) == seconds


# starting


def test_help_loads_neither_the_client_nor_the_network() -> None:
    code = (
        "import sys, json\n"
        "from fallow.cli import main\n"
        "assert main.run(['--help']) == 0\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *help_text, loaded = done.stdout.splitlines()
    assert not {"httpx2", "litestar", "msgspec", "fallow.sdk.client", "fallow.cli.run"} & set(json.loads(loaded))
    assert any("run" in line for line in help_text)


@pytest.mark.parametrize(
    ("module", "words"),
    [("sha3", ["epoch", "audit", "1", "--from", "http://127.0.0.1:1"]), ("asyncpg", ["up", "--data", "/nowhere"])],
)
def test_a_part_that_is_not_installed_is_named(module: str, words: list[str]) -> None:
    """As on a machine that has the agent's packages alone."""
    code = f"import sys\nsys.modules[{module!r}] = None\nfrom fallow.cli import main\nsys.exit(main.run({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the Python module {module}, which is not installed here.  [cli.not_installed]" in " ".join(
        done.stderr.splitlines()
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [entry.name for entry in main.COMMANDS])
def test_every_command_explains_itself(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run([command, "--help"]) == 0
    assert "Usage: fallow" in capfd.readouterr().out


def test_ctrl_c_at_the_question_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the event loop keeps Ctrl-C for later while it is asked."""

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            signal.raise_signal(signal.SIGINT)
            return "y\n"

    agreed = []

    async def join(*_: object, agree: Callable[[str], bool], **__: object) -> None:
        agreed.append(agree("What it means."))

    monkeypatch.setattr("fallow.bootstrap.agent.join", join)
    monkeypatch.setattr("sys.stdin", Terminal())
    assert main.run(["agent", "join", "http://127.0.0.1:1", "--token", "t"]) == main.INTERRUPTED_EXIT
    assert agreed == []


def test_who_is_told_to_end_ends_as_if_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> int:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it goes on")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(main, "_say_all", run)
    try:
        with pytest.raises(SystemExit) as ended:
            main.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == main.INTERRUPTED_EXIT


@pytest.mark.parametrize("command", ["balance --json", "storage profiles", "--help", "job --help"])
def test_output_that_nobody_reads_ends_a_command_without_a_word(command: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "fallow.cli.main", *command.split()],
        stdout=writer, stderr=subprocess.PIPE, env=os.environ | {"HOME": str(tmp_path)}, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (main.UNREAD_EXIT, b"")


@pytest.mark.parametrize(
    ("where", "code", "said"), [("/dev/full", 1, "No space left on device.  [cli.system]"), ("&-", 0, "")]
)
def test_output_that_goes_nowhere_is_said_in_a_sentence_or_was_wished(where: str, code: int, said: str) -> None:
    line = f"exec {sys.executable} -m fallow.cli.main storage profiles --json >{where}"
    done = subprocess.run(["/bin/sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False)


def test_where_a_table_has_no_room_each_row_is_lines_of_whole_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("ab" * 32, "nobody: the operator's word alone", ""), ("cd" * 32, "0x" + "12" * 20, "[red]2027[/red]")]
    monkeypatch.setenv("COLUMNS", "60")
    show.table(["KEY", "WHO", ">UNTIL"], rows, empty="")
    said = capsys.readouterr().out
    assert said == (
        f"KEY    {'ab' * 32}\nWHO    nobody: the operator's word alone\n\n"
        f"KEY    {'cd' * 32}\nWHO    0x{'12' * 20}\nUNTIL  [red]2027[/red]\n"
    )
    monkeypatch.setenv("COLUMNS", "200")
    show.table(["KEY", "WHO", ">UNTIL"], rows, empty="")
    assert capsys.readouterr().out.splitlines()[0].split() == ["KEY", "WHO", "UNTIL"]


def test_every_role_is_named_where_it_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["serve", "--help"]) == 0
    said = capfd.readouterr().out
    assert [role for role in ("core", "gateway", "chain", *CORE) if role not in said] == []


@pytest.mark.parametrize("line", ["job ls --nope", "job lz", "job ls --limit x", "job cancel"])
def test_a_line_that_says_no_command_is_told_to_programs_as_every_other_error(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*line.split(), "--json"]) == main.USAGE_EXIT
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["kind"], told["code"], said.err) == ("InvalidInput", "cli.usage", "")
    assert told["hint"].startswith("fallow ")
    assert told["hint"].endswith(" --help")


@pytest.mark.parametrize(("command", "jobs"), [("run", True), ("agent", False)])
def test_only_buyers_are_sent_to_their_jobs_when_a_disk_is_full(command: str, jobs: bool) -> None:
    failed = OSError(errno.ENOSPC, "No space left on device")
    assert ("fallow job ls" in main._system_error(failed, [command, "x"]).hint) is jobs
