"""OpenStack Swift on one machine: the S3 API over an erasure coding policy of 4+4 on eight devices, without root."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench._objects import S3, Account, Processes
from bench._peers import Served, installed, program, program_of, unpacked, until_answers
from fallow.bootstrap.listening import free_port
from tests.network import processes_of

DEVICES = 8
REPLICAS = {"account": 3, "container": 3, "object": DEVICES}
PART_POWER = 6
ACCOUNT, USER, SECRET = "bench", "client", "bench-secret"

COMMON = """
[swift-hash]
swift_hash_path_prefix = bench
swift_hash_path_suffix = bench

[storage-policy:0]
name = coded
default = yes
policy_type = erasure_coding
ec_type = isa_l_rs_cauchy
ec_num_data_fragments = 4
ec_num_parity_fragments = 4
"""

SERVER = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false

[pipeline:main]
pipeline = {name}-server

[app:{name}-server]
use = egg:swift#{name}
"""

PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}

[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats s3api tempauth copy slo dlo versioned_writes proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{cache}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{client} = {secret} .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
"""


@contextmanager
def swift(folder: Path) -> Iterator[Served]:
    """Each server has as many workers as there are cores, as it is by default. Objects are synced to the disk."""
    programs = installed("swift", "swift", "pyeclib", "setuptools<81")
    cache_program, variables = _memcached()
    ports = {name: free_port("127.0.0.1") for name in (*REPLICAS, "proxy", "cache")}
    words = {"user": getpass.getuser(), "folder": folder, "cache": ports["cache"]}
    (folder / "swift.conf").write_text(COMMON)
    for number in range(DEVICES):
        (folder / "devices" / f"d{number}").mkdir(parents=True)
    for name in REPLICAS:
        (folder / f"{name}.conf").write_text(SERVER.format(name=name, port=ports[name], **words))
        _make_ring(folder, programs, name, ports[name])
    keys = {"account": ACCOUNT, "client": USER, "secret": SECRET}
    (folder / "proxy.conf").write_text(PROXY.format(port=ports["proxy"], **keys, **words))
    account = Account(f"http://127.0.0.1:{ports['proxy']}", f"{ACCOUNT}:{USER}", SECRET)
    cache = (cache_program, "-l", "127.0.0.1", "-p", ports["cache"], "-u", words["user"])
    with ExitStack() as stack:
        stack.enter_context(program(folder, *cache, **variables))
        for name in (*REPLICAS, "proxy"):
            stack.enter_context(program(folder, programs / f"swift-{name}-server", folder / f"{name}.conf", "-v"))
        until_answers(f"{account.endpoint}/info", folder / "swift-proxy-server.log")
        yield Served(S3(account), account, Processes(lambda: processes_of(folder), program_of))


def _memcached() -> tuple[Path, dict[str, str]]:
    """Find it, or Debian's package of it; and the variables that it needs."""
    if found := shutil.which("memcached"):
        return Path(found), {}
    folder = unpacked("memcached", "memcached", "libevent-2.1-7")
    (libraries,) = {str(path.parent) for path in folder.glob("usr/lib/*/libevent-2.1.so.7")}
    return folder / "usr" / "bin" / "memcached", {"LD_LIBRARY_PATH": libraries}


def _make_ring(folder: Path, programs: Path, name: str, port: int) -> None:
    def build(*words: object) -> None:
        command = [str(programs / "swift-ring-builder"), str(folder / f"{name}.builder"), *map(str, words)]
        # It ends with 1 where it only warns.
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=dict(os.environ), check=False)
        if done.returncode > 1:
            raise RuntimeError(done.stdout + done.stderr)

    build("create", PART_POWER, REPLICAS[name], 1)
    for number in range(DEVICES):
        build("add", f"r1z{number}-127.0.0.1:{port}/d{number}", 1)
    build("rebalance")
