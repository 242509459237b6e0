"""The verifier that uses no code of Fallow, on good epochs and on those that an enemy has had his hands on."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.encoding import decode, encode
from fallow.domain.epochs.manifest import File, frame, read_frames
from fallow.domain.epochs.quorum import Domain, Vote
from fallow.domain.rewards.tree import Leaf
from fallow.domain.wallets import CURVE_ORDER, address_of
from tests.closed_epochs import ADDRESSES, LEAVES, SETTLEMENT, TOKEN, VALIDATORS, ClosedEpoch
from tests.contract_calls import EPOCH, Contracts, epoch_words, words
from tests.epoch_files import NETWORK_KEY
from tests.serving import Answer, answering, serving
from tools import verify_epoch

SCRIPT = Path(verify_epoch.__file__)
NAMED = ["--validators", ",".join(f"0x{each.hex()}" for each in ADDRESSES)]


def run(source: Path | str, *more: str, epoch: int = 1) -> int:
    return verify_epoch.main([str(source), str(epoch), "--key", NETWORK_KEY.hex(), *more])


@pytest.fixture
def closed() -> ClosedEpoch:
    made = ClosedEpoch(more={"state": b"what is carried on"})
    made.vote(VALIDATORS[:3])
    return made


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    text = SCRIPT.read_text("utf-8")
    assert len(text.splitlines()) < 300
    for node in ast.walk(ast.parse(text)):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.partition(".")[0] in {"fallow", "tests", "tools"}]


def test_it_runs_by_itself_and_says_what_it_found(closed: ClosedEpoch, tmp_path: Path) -> None:
    account, asset, amount = LEAVES[3]
    claim = ["--claim", f"0x{account.hex()}", f"0x{asset.hex()}"]
    command = [sys.executable, "-P", str(SCRIPT), str(closed.write(tmp_path)), "1", "--key", NETWORK_KEY.hex()]
    done = subprocess.run([*command, *NAMED, *claim], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 in 3 batches: all hashes, signatures and promises hold" in done.stdout
    assert f"0x{closed.root.root.hex()} is what the leaves give" in done.stdout
    assert "3 of 4 signed it, which is a quorum" in done.stdout
    assert f"is owed {amount} in all" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("ALL HOLDS")
    claim[1] = claim[1][:-2]
    short = subprocess.run([*command, *NAMED, *claim], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (short.returncode, "an address has 20 bytes" in short.stdout) == (1, True)


def test_without_validators_it_says_whose_word_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ClosedEpoch().write(tmp_path)) == 0
    assert "self-attested" in capsys.readouterr().out


def test_an_epoch_in_which_nobody_earned(tmp_path: Path) -> None:
    assert run(ClosedEpoch(leaves=[]).write(tmp_path)) == 0


@pytest.mark.parametrize("name", ["statement", "manifest", "batches", "leaves", "state", "records/lease.accepted"])
def test_a_missing_file_is_found(closed: ClosedEpoch, tmp_path: Path, name: str) -> None:
    del closed.files[name]
    assert run(closed.write(tmp_path), *NAMED) == 1


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_flipped_bit_anywhere_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    closed = ClosedEpoch(more={"state": b"what is carried on"})
    closed.vote(VALIDATORS[:3])
    name = data.draw(st.sampled_from([name for name in sorted(closed.files) if not name.startswith("votes/")]))
    changed = bytearray(closed.files[name])
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    closed.files[name] = bytes(changed)
    assert run(closed.write(tmp_path_factory.mktemp("archive")), *NAMED) == 1


def test_a_broken_vote_does_not_count_and_stops_nothing(tmp_path: Path) -> None:
    for number, broken in enumerate((b"", b"\xff" * 40, bytes(200), b"\xa1isignatureA\0")):
        closed = ClosedEpoch()
        closed.vote(VALIDATORS[1:])
        closed.files[f"votes/0x{ADDRESSES[0].hex()}"] = broken
        assert run(closed.write(tmp_path / f"three{number}"), *NAMED) == 0
        del closed.files[f"votes/0x{ADDRESSES[1].hex()}"]
        assert run(closed.write(tmp_path / f"two{number}"), *NAMED) == 1


@pytest.mark.parametrize("name", ["manifest", "batches", "leaves"])
def test_a_file_of_another_epoch_is_found(closed: ClosedEpoch, tmp_path: Path, name: str) -> None:
    closed.files[name] = ClosedEpoch(epoch=2, leaves=LEAVES[:3]).files[name]
    assert run(closed.write(tmp_path), *NAMED) == 1


def test_the_statement_of_another_epoch_is_none_of_this(tmp_path: Path) -> None:
    other = ClosedEpoch(epoch=2)
    other.write(tmp_path)
    other.write(tmp_path, "epochs/1")
    assert run(tmp_path, epoch=2) == 0
    assert run(tmp_path, epoch=1) == 1


@pytest.mark.parametrize(
    "lie",
    [
        {"token_total": (sum(leaf.cumulative for leaf in LEAVES) + 1).to_bytes(32)},
        {"settlement_total": (1).to_bytes(32)},
        {"root": bytes(32)},
        {"token": bytes(20)},
        {"manifest": bytes(32)},
        {"files": []},
        {"epoch": 7},
        {"net": "another"},
    ],
)
def test_what_the_operator_signs_and_everybody_confirms_is_still_checked(tmp_path: Path, lie: dict[str, Any]) -> None:
    """A wrong total, root or file: the network's key and all validators say it is right."""
    closed = ClosedEpoch(**lie)
    closed.vote()
    assert run(closed.write(tmp_path), *NAMED) == 1


def test_leaves_out_of_order_or_twice_are_found(closed: ClosedEpoch, tmp_path: Path) -> None:
    data = closed.files["leaves"]
    for number, twisted in enumerate((data[96:] + data[:96], data + data[-96:], data[:-1])):
        closed.files["leaves"] = twisted
        assert run(closed.write(tmp_path / str(number)), *NAMED) == 1


def test_a_record_that_is_smuggled_in_under_anothers_place_is_found(tmp_path: Path) -> None:
    """The operator has signed its file: whoever reads that file alone would take it for a record of the node."""
    made = ClosedEpoch()
    manifest = decode(made.files["manifest"])
    name = "records/lease.accepted"
    (file,) = (file for file in manifest["files"] if file["name"] == name)
    frames = [list(value) for value in read_frames(File(**file), [made.files[name]])]
    batch, places, raws = frames[0]
    frames[0] = [batch, [places[0], *places], [raws[0].replace(bytes(16), b"x" * 16), *raws]]
    data = b"".join(map(frame, frames))
    file |= {"size": len(data), "sha256": hashlib.sha256(data).digest(), "count": file["count"] + 1}
    changed = encode(manifest)
    closed = ClosedEpoch(manifest=hashlib.sha256(changed).digest())
    closed.files |= {name: data, "manifest": changed}
    closed.vote()
    assert run(closed.write(tmp_path), *NAMED) == 1


def test_two_signatures_of_four_are_no_quorum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = ClosedEpoch()
    closed.vote(VALIDATORS[:2])
    assert run(closed.write(tmp_path), *NAMED) == 1
    assert "2 of 4 validators signed this root; a quorum is 3" in capsys.readouterr().out


def test_votes_for_another_root_or_network_or_by_others_do_not_count(tmp_path: Path) -> None:
    for number, domain in enumerate((None, Domain.without_chain("another"))):
        closed = ClosedEpoch()
        closed.vote(VALIDATORS[:2])
        closed.domain = domain or closed.domain
        closed.vote(VALIDATORS[2:], root=closed.root if domain else closed.root._replace(token_total=1))
        assert run(closed.write(tmp_path / str(number)), *NAMED) == 1
    closed = ClosedEpoch()
    closed.vote(VALIDATORS[:2])
    stranger = Vote.cast(PrivateKey(b"\x77" * 32), closed.domain, closed.root)
    closed.files[f"votes/0x{ADDRESSES[2].hex()}"] = stranger.encode()
    assert run(closed.write(tmp_path / "stranger"), *NAMED) == 1


def test_a_signature_in_its_other_form_does_not_count(closed: ClosedEpoch, tmp_path: Path) -> None:
    name = f"votes/0x{ADDRESSES[0].hex()}"
    signature = Vote.decode(closed.files[name]).signature
    high = CURVE_ORDER - int.from_bytes(signature[32:64])
    twin = signature[:32] + high.to_bytes(32) + bytes([55 - signature[64]])
    closed.files[name] = closed.files[name].replace(signature, twin)
    assert run(closed.write(tmp_path), *NAMED) == 1


def test_another_network_key_is_not_taken(closed: ClosedEpoch, tmp_path: Path) -> None:
    closed.write(tmp_path)
    assert verify_epoch.main([str(tmp_path), "1", "--key", "ab" * 32, *NAMED]) == 1


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def rpc_of(chain: Contracts, chain_id: int) -> type[BaseHTTPRequestHandler]:
    """As much of JSON-RPC as the verifier asks for, on the real bytecode."""

    def answer(_path: str, body: bytes) -> Answer:
        asked = json.loads(body)
        if asked["method"] == "eth_chainId":
            result = hex(chain_id)
        else:
            to, data = (bytes.fromhex(asked["params"][0][name][2:]) for name in ("to", "data"))
            result = "0x" + chain.raw(to, data).hex()
        return 200, json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()

    return answering(answer)


def test_over_http_and_against_the_contract_of_ones_own_rpc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chain = Contracts(31337)
    validators = chain.deploy("Validators", words(ADDRESSES, b"\x01" * 20))
    arguments = words(SETTLEMENT, TOKEN, validators, b"\x6a" * 20, 60, 10**28, b"\x01" * 20)
    distributor = chain.deploy("Distributor", arguments)
    closed = ClosedEpoch(domain=Domain(31337, distributor))
    closed.vote(VALIDATORS[1:])
    signatures = [Vote.decode(closed.files[f"votes/0x{each.hex()}"]).signature for each in ADDRESSES[1:]]
    closed.write(tmp_path, "v1/epochs/{epoch}/files")
    claim = ["--claim", f"0x{LEAVES[0].account.hex()}", f"0x{TOKEN.hex()}"]
    with serving(partial(_Quiet, directory=str(tmp_path))) as url, serving(rpc_of(chain, 31337)) as rpc:
        assert run(url, "--rpc", rpc) == 1
        assert "the contract has another root" in capsys.readouterr().out
        data = epoch_words(closed.root) + (7 * 32).to_bytes(32) + words(signatures)[32:]
        chain.send(distributor, f"submit({EPOCH},bytes[])", data)
        assert run(url, "--rpc", rpc, *claim) == 0
        said = capsys.readouterr().out
        assert f"0x{distributor.hex()} on chain 31337 has this root" in said
        assert f"is owed {LEAVES[0].cumulative} in all, was paid 0" in said
    with serving(partial(_Quiet, directory=str(tmp_path))) as url, serving(rpc_of(chain, 1)) as rpc:
        assert run(url, "--rpc", rpc) == 1


def test_leaves_of_an_asset_that_is_not_named_are_found(tmp_path: Path) -> None:
    stray = [*LEAVES, Leaf(bytes(20), b"\x09" * 20, 5)]
    assert run(ClosedEpoch(leaves=stray).write(tmp_path)) == 1


def test_an_address_of_a_validator_is_read_with_and_without_0x(closed: ClosedEpoch, tmp_path: Path) -> None:
    plain = ",".join(address_of(key).hex() for key in VALIDATORS)
    assert run(closed.write(tmp_path), "--validators", plain) == 0
