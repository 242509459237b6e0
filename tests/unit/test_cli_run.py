"""`run`, `quote` and `map` on canned answers: what they ask for, what they print, how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Never

import msgspec
import pytest

from fallow.cli import main
from fallow.cli.progress import Progress
from fallow.cli.show import quote_line
from fallow.cli.wanted import Wanted
from fallow.domain.errors import FallowError, InvalidInput, NotFound
from fallow.domain.orders import Tolerance
from fallow.domain.views.jobs import JobEvent
from tests.unit import fake_network
from tests.unit.canned_client import JOB, CannedClient, CannedResult, called
from tests.unit.fake_network import BUYER

# run


def test_run_prints_the_programs_output_and_returns_its_code(
    client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]
) -> None:
    client.given = [CannedResult(exit_code=3, state="failed")]
    assert main.run(["run", program]) == 3
    out, err = capfd.readouterr()
    assert out == "out 0\n"
    lines = err.splitlines()
    assert lines[0] == "1 of 2 nodes can take this, from 0.02 USD/h; 0.000333 USD is set aside."
    assert lines[1:4] == [f"job {JOB}: running", "program: running on cdcdcdcdcdcd", "job: done"]
    assert lines[4:] == [
        "warning",
        f"It ended with: exited. See `fallow job why {JOB}`.",
        f"2.5 s, 0.00123 USD TEST on cdcdcdcdcdcd, job {JOB}",
    ]


def test_run_asks_for_what_the_options_say(client: CannedClient, program: str, tmp_path: Path) -> None:
    line = f"run {program} --input a=x.bin --input b=y=z --env K=V=W --cpu 0.5 --memory 512 --country de --country FR"
    line += " --spot --max-price 0.02 --budget 1.5 --time-limit 2h --retries 2 --label mine"
    line += " --near 52.52,13.405 --within-km 50"
    line += " --replicas 3 --compare exact pos -- -v --json"
    assert main.run([*line.split(), "--output", str(tmp_path)]) == 0
    path, args, inputs, items, env, options = called(client, "wasm_order")
    assert (path, args, items) == (Path(program), ["pos", "-v", "--json", "--output", str(tmp_path)], [])
    assert inputs == {"a": Path("x.bin"), "b": Path("y=z")}
    assert env == {"K": "V=W"}
    requirements = options.pop("requirements")
    assert (requirements.cpu_milli, requirements.memory_mib, requirements.countries) == (500, 512, ["DE", "FR"])
    assert (requirements.near, requirements.within_km) == ("851f1d4bfffffff", 50)
    assert options == {
        "spot": True,
        "max_price_microusd_per_hour": 20_000,
        "budget_microusd": 1_500_000,
        "time_limit_s": 7200,
        "retries": 2,
        "label": "mine",
        "replicas": 3,
        "compare": "exact",
    }


def test_a_tolerance_is_of_numbers_or_by_a_program(client: CannedClient, program: str, tmp_path: Path) -> None:
    (comparator := tmp_path / "cmp.wasm").write_bytes(b"\0asm")
    assert main.run(f"quote {program} --compare tolerance --rtol 1e-6".split()) == 0
    *_, options = called(client, "wasm_order")
    assert (options["compare"], options["tolerance"]) == ("tolerance", Tolerance(rtol="1e-6"))
    assert "replicas" not in options  # the client orders as many as a comparison takes
    assert main.run(f"run {program} --compare tolerance --comparator {comparator}".split()) == 0
    assert called(client, "comparator") == (comparator,)
    for wrong in (
        "--compare tolerance",
        "--rtol 1",
        "--compare exact --atol 1",
        "--compare tolerance --rtol x",
        f"--compare tolerance --rtol 1 --comparator {comparator}",
    ):
        assert main.run([*f"run {program}".split(), *wrong.split()]) == 2, wrong


def test_a_process_without_an_end_with_checkpoints_of_its_own() -> None:
    options = Wanted(until_stopped=True, checkpoint="5m").options
    assert (options["until_stopped"], options["checkpoint_s"]) == (True, 300)
    assert Wanted(checkpoint="0").options["checkpoint_s"] == 0
    assert not {"until_stopped", "checkpoint_s"} & set(Wanted().options)


def test_secrets_come_from_here_or_from_files_and_are_shown_nowhere(
    client: CannedClient,
    program: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FROM_HERE", "s3cret-a")
    (tmp_path / "key").write_text("s3cret-b\nof two lines\n")
    options = ["--secret", "FROM_HERE", "--secret", f"FROM_FILE={tmp_path / 'key'}"]
    assert main.run(["run", *options, program, "--json"]) == 0
    assert client.secrets == {"FROM_HERE": "s3cret-a", "FROM_FILE": "s3cret-b\nof two lines"}
    assert client.asked_with == ["FROM_FILE", "FROM_HERE"], "the quote is asked with their names"
    assert main.run(["run", "--secret", "NOT_HERE", program]) == 2
    assert main.run(["run", "--secret", f"KEY={tmp_path / 'nothing'}", program]) == 2
    assert "s3cret" not in "".join(capfd.readouterr())
    assert "s3cret" not in str(called(client, "wasm_order"))  # the one that was made: values are looked for first


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("--gpu rtx4090:2 --vram 24", ("rtx4090", 2, 24 * 1024)),
        ("--gpu a100", ("a100", 1, 0)),
        ("--gpu 3", ("", 3, 0)),
        ("", ("", 0, 0)),
    ],
)
def test_run_asks_for_graphics_processors(
    client: CannedClient, program: str, said: str, asked: tuple[str, int, int]
) -> None:
    assert main.run(["run", program, *said.split()]) == 0
    requirements = called(client, "wasm_order")[-1]["requirements"]
    assert (requirements.gpu_model, requirements.gpus, requirements.vram_mib) == asked


def test_run_as_json_is_one_document(
    client: CannedClient, program: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", program, "--json", "--output", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert (document["job"]["id"], document["exit_code"], document["stdout"]) == (JOB, 0, "out 0\n")
    assert document["saved"] == [str(tmp_path / "stdout")]
    assert err == ""
    assert called(client, "wait") == (JOB,)


def test_run_detached_prints_the_id(client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", program, "--detach"]) == 0
    assert capfd.readouterr().out == f"{JOB}\n"
    assert "result" not in dict(client.asked)


def test_an_interrupted_run_is_cancelled(client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]) -> None:
    client.interrupts = True
    assert main.run(["run", program]) == 130
    assert called(client, "cancel") == (JOB,)
    assert "is cancelled" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["run PROGRAM", "run PROGRAM --detach", "map PROGRAM PROGRAM"])
@pytest.mark.parametrize(("came", "said"), [(True, "is cancelled"), (False, "was not ordered")])
def test_an_order_that_was_interrupted_on_its_way_is_cancelled(
    client: CannedClient,
    program: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
    came: bool,
    said: str,
) -> None:
    """Nobody knows then whether the network has it: it may run, and cost."""

    def interrupted(*_: object, **__: object) -> None:
        client.fails = None if came else NotFound("job.unknown", "There is no such job.")
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "submit", interrupted)
    assert main.run(command.replace("PROGRAM", program).split()) == 130
    assert called(client, "cancel") == (JOB,)
    assert said in capfd.readouterr().err


def test_what_one_machine_left_in_place_of_a_result_hides_no_others(
    client: CannedClient,
    program: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    unsaved, unread, fine = (CannedResult(index) for index in range(3))
    monkeypatch.setattr(unsaved, "save", raising(InvalidInput("result.name", "It has a file '../x'.")))
    monkeypatch.setattr(unread, "stdout", raising(NotFound("blob.unknown", "There is no such blob.")))
    client.given = [unsaved, unread, fine]
    command = ["map", program, program, program, program, "--output", str(tmp_path / "results")]
    assert main.run(command) == 1
    out, err = capfd.readouterr()
    assert out == "out 0\nout 2\n"
    assert "(item 0): result.name" in err
    assert "(item 1): blob.unknown" in err
    assert main.run([*command, "--json"]) == 1
    items = json.loads(capfd.readouterr().out)["items"]
    assert [(item["ok"], item["reason"]) for item in items] == [
        (False, "result.name"),
        (False, "blob.unknown"),
        (True, ""),
    ]


def raising(error: FallowError) -> Callable[..., Never]:
    def fails(*_: object) -> Never:
        raise error

    return fails


@pytest.mark.parametrize(
    "options",
    [
        "--cpu many",
        "--cpu 0",
        "--cpu -1",
        "--cpu nan",
        "--country Germany",
        "--near Berlin",
        "--near 52.52,13.405 --within-km 0",
        "--gpu rtx4090:many",
        "--gpu rtx4090:0",
        "--vram 24",
        "--max-price 0.0000001",
        "--budget free",
        "--time-limit soon",
        "--input nameless",
        "--input =x",
        "--memory lots",
        "--frob",
    ],
)
def test_options_that_make_no_sense(
    client: CannedClient, program: str, options: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", program, *options.split()]) == 2
    assert client.asked == []
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err


def test_a_program_that_is_not_there(client: CannedClient, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", "/nowhere/program.wasm"]) == 2
    assert client.asked == []
    assert "/nowhere/program.wasm" in capfd.readouterr().err


# quote and map


def test_quote(client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["quote", program, "--cpu", "2"]) == 0
    out = capfd.readouterr().out
    assert ["abababababab", "0.02", "USD", "new", "DE"] in [line.split() for line in out.splitlines()]
    assert ["memory", "256", "MiB", "1"] in [line.split() for line in out.splitlines()]
    assert client.quoted.plain_data in out
    assert "submit" not in dict(client.asked)


def test_a_quote_without_nodes_says_why() -> None:
    quote = msgspec.structs.replace(fake_network.quote_view(), candidates=[], why_not={"cpu": 2, "country": 1})
    assert quote_line(quote) == "No node can take this now (country: 1, cpu: 2); it waits until one can."
    quote = msgspec.structs.replace(quote, why_not={"budget": 3})
    told = (
        "No node can take this now (budget: 3); it fails if no machine of the network ever can for so small a budget."
    )
    assert quote_line(quote) == told


def test_a_quote_says_when_there_are_fewer_owners_than_results() -> None:
    quote = msgspec.structs.replace(fake_network.quote_view(), replicas=3, compare="exact", owners=2)
    assert "only 2 owners on different networks could give one now" in quote_line(quote)
    assert "only" not in quote_line(msgspec.structs.replace(quote, owners=3))


def test_a_quote_says_what_it_would_cost_the_other_way() -> None:
    plain = fake_network.quote_view()
    assert "from 0.02 USD/h; " in quote_line(plain)
    quote = msgspec.structs.replace(plain, on_demand_microusd_per_hour=20_000, spot_microusd_per_hour=8000)
    assert "from 0.02 USD/h (as spot from 0.008 USD/h); " in quote_line(quote)
    quote = msgspec.structs.replace(quote, price_microusd_per_hour=8000)
    assert "from 0.008 USD/h (on demand from 0.02 USD/h); " in quote_line(quote)


def test_map_prints_in_the_order_of_the_inputs(
    client: CannedClient, program: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines, first = tmp_path / "lines", tmp_path / "first.bin"
    lines.write_bytes(b"one\ntwo\n")
    first.write_bytes(b"zero")
    client.given = [CannedResult(2), CannedResult(0), CannedResult(1, exit_code=1, state="failed")]
    assert main.run(["map", program, str(first), "--args-from", str(lines), "--arg", "x"]) == 1
    _, args, _, items, _, _ = called(client, "wasm_order")
    assert (args, items) == (["x"], [first, b"one", b"two"])
    out, err = capfd.readouterr()
    assert out == "out 0\nout 1\nout 2\n"
    assert "line-1 (item 1): exited" in err


def test_map_as_json(client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["map", program, program, "--json"]) == 0
    out, err = capfd.readouterr()
    assert [item["input"] for item in json.loads(out)["items"]] == ["program.wasm"]
    assert err == ""
    assert client.asked[-1][0] == "job"


def test_map_of_nothing(client: CannedClient, program: str) -> None:
    assert main.run(["map", program]) == 2
    assert client.asked == []


def test_progress_counts_and_adds_up() -> None:
    progress = Progress(3, shown=False)
    assert progress.line == "0 running, 3 waiting, 0.00 USD"
    progress.event(JobEvent(job=JOB, at=0, state="running", item=0))
    progress.event(JobEvent(job=JOB, at=0, state="placed", item=1))
    progress.event(JobEvent(job=JOB, at=0, state="running"))
    progress.event(fake_network.job_view(JOB))
    assert progress.line == "1 running, 2 waiting, 0.00 USD"
    progress.result(CannedResult(0))  # type: ignore[arg-type]
    assert (progress.line, progress.done) == ("0 running, 2 waiting, 0.000042 USD", 1)


def test_where_work_may_run_is_said_by_the_beginning_of_ids(
    client: CannedClient, program: str, capfd: pytest.CaptureFixture[str]
) -> None:
    line = f"--node {client.node.node[:8]} --not-node {BUYER} --per-owner 2 --attribute cpu.model=x --country jp"
    assert main.run(["run", program, *line.split()]) == 0
    needs = called(client, "wasm_order")[-1]["requirements"]
    assert (needs.nodes_allowed, needs.nodes_denied) == ([client.node.node], [BUYER])
    assert (needs.leases_per_owner_max, needs.attributes, needs.countries) == (2, {"cpu.model": "x"}, ["JP"])
    assert main.run(["run", program, "--node", "ffffffff"]) == 2
    assert "[node.which]" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--country Germany", "'Germany' is no country"),
        ("--cpu 0", "--cpu, in thousandths"),
        ("--gpu 4090", "A model has a name"),
        ("--env 日本=x", "no name that a program can be given"),
        ("--input ../a={file}", "no name that a program can be given"),
        ("--output {file}", "File exists"),
        ("--output /proc/nowhere", "/proc/nowhere"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_bought(
    client: CannedClient, program: str, line: str, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", program, *line.format(file=program).split()]) == 2
    assert says in capfd.readouterr().err
    assert "submit" not in [name for name, _ in client.asked]


def test_a_file_that_is_no_program_is_not_sent(
    client: CannedClient, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (text := tmp_path / "README.md").write_text("# Read me")
    assert main.run(["run", str(text)]) == 2
    assert "neither a WebAssembly program nor a Python script" in capfd.readouterr().err
    assert main.run(["map", str(text), str(tmp_path / "missing")]) == 2
    assert "There is no file" in capfd.readouterr().err
    assert client.asked == []
