"""Python scripts of buyers: unpacked, run in a sandbox, and what they left made fit to be collected."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from fallow.domain.errors import FallowError, InvalidInput, TooMuch, Unavailable
from fallow.ports.vertical.work import Assignment
from fallow.ports.vertical.worker import Probe
from fallow.verticals.compute.core.work import PythonWork
from fallow.verticals.compute.worker.bundles import Bundles
from fallow.verticals.compute.worker.cgroups import sweep
from fallow.verticals.compute.worker.checkpoints import FOLDER, checkpointed, restore
from fallow.verticals.compute.worker.course import RunOutcome
from fallow.verticals.compute.worker.sandbox import GROUP_PREFIX, SandboxJob, run_sandboxed
from fallow.verticals.compute.worker.sandbox_root import Folders, find_interpreter, find_tools, native_platform
from fallow.verticals.compute.worker.transfers import broken, fetched
from fallow.verticals.compute.worker.watch import wipe
from fallow.verticals.compute.worker.workspace import make_readable, settle_outputs

KEPT_BYTES_MAX: Final = 4 << 30
_MIB: Final = 1 << 20
_PROBE_SCRIPT: Final = "import os; open('/out/ran', 'x').close(); raise SystemExit(os.getuid() == 0)\n"
_NO_NAMESPACES: Final = (
    (Path("/proc/sys/user/max_user_namespaces"), "0", "user.max_user_namespaces must be above 0"),
    (Path("/proc/sys/kernel/unprivileged_userns_clone"), "0", "kernel.unprivileged_userns_clone must be 1"),
    (
        Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        "1",
        "kernel.apparmor_restrict_unprivileged_userns must be 0, or an AppArmor profile must allow them to bwrap",
    ),
)
_log = logging.getLogger(__name__)


class PythonRunner:
    """Runs scripts with the Python that this process runs on. `cache` keeps unpacked bundles."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._bundles = Bundles(cache / "bundles", KEPT_BYTES_MAX)

    async def probe(self) -> Probe:
        """Really run a script in the sandbox; see the port."""
        try:
            outcome = await self._try()
        except (FallowError, OSError) as error:
            why = _why_no_namespaces() or getattr(error, "hint", "")
            told = error.message if isinstance(error, FallowError) else str(error)
            return Probe({}, {"python": f"No Python sandbox works here: {told} {why}".strip()})
        if (outcome.reason, outcome.exit_code) != ("exited", 0):
            why = outcome.detail or f"exit code {outcome.exit_code}"
            return Probe({}, {"python": f"A Python script that does nothing failed in the sandbox: {why}."})
        attributes = {"compute.python": find_interpreter().version}
        if platform := native_platform():
            attributes["compute.platform"] = platform
            return Probe(attributes, {})
        why = "its C library is not glibc 2.28 or newer"
        return Probe(attributes, {"python.native": f"Python packages with native code do not run here: {why}."})

    async def run(self, work: PythonWork, assignment: Assignment) -> RunOutcome:
        """Run a script whose inputs lie in the workspace; its outputs are fit to be collected afterwards.

        Raises:
            Ended: it could not be run, or was cancelled.
        """
        checkpoint_bytes_max = work.output_mib * _MIB
        await restore(assignment, checkpoint_bytes_max)
        bytes_max = max(_MIB, assignment.resources.disk_mib * _MIB)
        try:
            await asyncio.to_thread(_layout, assignment.workspace, Path())
            async with self._bundles.unpacked(
                work.bundle, partial(fetched, assignment, work.bundle), bytes_max=bytes_max
            ) as bundle:
                job = await asyncio.to_thread(_job, work, assignment, bundle)
                running = self._run(job, assignment)
                outcome = await checkpointed(assignment, work.checkpoint_s, checkpoint_bytes_max, running)
        except (InvalidInput, TooMuch) as error:
            return RunOutcome(-1, "invalid", error.message, 0, 0, 0)
        except (FallowError, OSError) as error:
            _log.warning("the sandbox failed: %s", error)
            raise broken(error) from error
        return outcome

    async def _run(self, job: SandboxJob, assignment: Assignment) -> RunOutcome:
        assignment.started.set()
        try:
            outcome = await run_sandboxed(
                job, find_tools(), find_interpreter(), cancel=assignment.cancel, opened=assignment.opened
            )
            return await asyncio.to_thread(settle_outputs, job.folders.outputs, outcome)
        except BaseException:
            await asyncio.to_thread(wipe, job.folders.outputs)
            raise
        finally:
            await asyncio.to_thread(wipe, job.folders.work)

    async def _try(self) -> RunOutcome:
        tools, interpreter = find_tools(), find_interpreter()
        if not interpreter.prefix.joinpath("bin", interpreter.executable.name).exists():
            raise Unavailable("compute.no_sandbox", f"{interpreter.prefix} holds no {interpreter.executable.name}.")
        await asyncio.to_thread(sweep, GROUP_PREFIX)
        await asyncio.to_thread(self._cache.mkdir, mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._cache) as name:
            folders = await asyncio.to_thread(_layout, Path(name), Path(name, "bundle"))
            folders.bundle.mkdir()
            folders.bundle.joinpath("probe.py").write_text(_PROBE_SCRIPT)
            make_readable(folders.bundle)
            job = SandboxJob(
                script="probe.py",
                args=(),
                env={},
                seed=bytes(32),
                folders=folders,
                stdout=Path(name, "stdout"),
                stderr=Path(name, "stderr"),
                memory_bytes_max=256 * _MIB,
                disk_bytes_max=_MIB,
                cpu_milli=1000,
                time_limit_s=20,
            )
            return await run_sandboxed(job, tools, interpreter)


def _job(work: PythonWork, assignment: Assignment, bundle: Path) -> SandboxJob:
    """Lay a run out.

    Raises:
        InvalidInput: the bundle does not hold the script.
    """
    if not (bundle / work.entry).is_file():
        raise InvalidInput("compute.entry", f"The bundle has no file {work.entry}.")
    workspace, resources = assignment.workspace, assignment.resources
    folders = _layout(workspace, bundle)
    make_readable(folders.inputs)
    return SandboxJob(
        script=work.entry,
        args=tuple(work.args),
        env=work.env,
        seed=assignment.seed,
        folders=folders,
        stdout=workspace / "stdout",
        stderr=workspace / "stderr",
        memory_bytes_max=resources.memory_mib * _MIB,
        disk_bytes_max=max(resources.disk_mib, work.output_mib) * _MIB,
        cpu_milli=resources.cpu_milli,
        time_limit_s=assignment.time_limit_s,
        secrets=assignment.secrets,
    )


def _layout(workspace: Path, bundle: Path) -> Folders:
    folders = Folders(workspace / "in", workspace / "out", workspace / "work", workspace / FOLDER, bundle)
    for folder in folders[:4]:
        folder.mkdir(mode=0o700, exist_ok=True)
    return folders


def _why_no_namespaces() -> str:
    """Which setting of this machine keeps user namespaces away, if one does."""
    for path, value, told in _NO_NAMESPACES:
        try:
            if path.read_text().strip() == value:
                return f"User namespaces are off: {told}."
        except OSError:
            continue
    return ""
