"""Containers of buyers: whether they run here, their images, and what they left made fit to be collected."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fallow.domain.errors import FallowError, InvalidInput, NotFound, TooMuch, Unavailable
from fallow.ports.vertical.work import Assignment
from fallow.ports.vertical.worker import Probe
from fallow.verticals.compute.core.work import ContainerWork
from fallow.verticals.compute.worker.checkpoints import FOLDER, checkpointed, restore
from fallow.verticals.compute.worker.container_job import ContainerJob
from fallow.verticals.compute.worker.container_run import run_container
from fallow.verticals.compute.worker.course import RunOutcome
from fallow.verticals.compute.worker.docker import find_docker
from fallow.verticals.compute.worker.engine import Engine
from fallow.verticals.compute.worker.images import Images
from fallow.verticals.compute.worker.podman import find_podman, find_runtimes
from fallow.verticals.compute.worker.tiny import EXIT_CODE, write_tiny_image
from fallow.verticals.compute.worker.transfers import broken
from fallow.verticals.compute.worker.watch import wipe
from fallow.verticals.compute.worker.workspace import make_readable, settle_outputs

KEPT_BYTES_MAX: Final = 8 << 30
"""Of images that no run uses, as they are without compression."""
_MIB: Final = 1 << 20
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_NO_RUNTIME: Final = "no OCI runtime is installed. Debian and Ubuntu: apt-get install runc."
_NO_GROUPS: Final = "Memory is sampled and processor time is not shared out: containers get no control groups here."
_log = logging.getLogger(__name__)


class ContainerRunner:
    """Runs containers. `cache` keeps the engine's store and the images in it."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._engine: tuple[Engine, Images] | None = None

    async def probe(self) -> Probe:
        """Really run a container, after removing what an agent that was killed has left; see the port."""
        self._engine, whys = None, list[str]()
        architecture = _ARCHITECTURES.get(platform.machine(), "")
        try:
            engine = await self._found(architecture, whys)
            if engine is not None:
                images = Images(engine, engine.images, KEPT_BYTES_MAX)
                await images.reconcile()
                self._engine = engine, images
                found = {"compute.container": f"linux/{architecture}", "compute.container.engine": engine.name}
                return Probe(found, {} if engine.groups else {"container.limits": _NO_GROUPS})
        except (FallowError, OSError) as error:
            whys.append(_told(error))
        finally:
            if self._engine is None:  # an agent that ends while it tries leaves nothing behind either
                with contextlib.suppress(FallowError, OSError):  # what was told says more
                    await asyncio.shield(self.erase())
        return Probe({}, {"container": f"No container runs here: {' '.join(whys)}"})

    async def _found(self, architecture: str, whys: list[str]) -> Engine | None:
        """The first engine that works; `whys` gets what keeps each other one from it."""
        for find in (_podmans, _dockers):
            why = _NO_RUNTIME
            try:
                for engine in find(self._cache):
                    why = await self._try(engine, architecture)
                    if not why:
                        return engine
            except (FallowError, OSError) as error:
                why = _told(error)
            whys.append(why)
        return None

    async def run(self, work: ContainerWork, assignment: Assignment) -> RunOutcome:
        """Run a container whose inputs lie in the workspace; its outputs are fit to be collected afterwards.

        Raises:
            Ended: it could not be run, or was cancelled.
        """
        try:
            engine, images = await self._ready()
            await asyncio.to_thread(engine.prepare)
            bytes_max = work.output_mib * _MIB
            await restore(assignment, bytes_max)
            await asyncio.to_thread(_lay_out, assignment.workspace)
            async with images.held(work, assignment) as image:
                job = await asyncio.to_thread(_job, work, assignment, image)
                running = self._run(job, engine, assignment)
                outcome = await checkpointed(assignment, work.checkpoint_s, bytes_max, running)
        except (InvalidInput, TooMuch) as error:
            return RunOutcome(-1, "invalid", error.message.rstrip("."), 0, 0, 0)
        except (FallowError, OSError) as error:
            _log.warning("the container failed: %s", error)
            raise broken(error) from error
        return outcome

    async def erase(self) -> None:
        """Remove what is kept outside of the cache. Raises Unavailable when something cannot be ended."""
        for find in (lambda cache: find_podman(cache, "", groups=False), find_docker):
            with contextlib.suppress(NotFound):
                await find(self._cache).erase()

    async def _ready(self) -> tuple[Engine, Images]:
        if self._engine is None:
            probe = await self.probe()
            if self._engine is None:
                raise Unavailable("compute.no_container", probe.missing["container"])
        return self._engine

    async def _run(self, job: ContainerJob, engine: Engine, assignment: Assignment) -> RunOutcome:
        outputs = job.folder / "out"
        try:
            outcome = await run_container(
                job, engine, cancel=assignment.cancel, started=assignment.started.set, opened=assignment.opened
            )
            return await asyncio.to_thread(settle_outputs, outputs, outcome)
        except InvalidInput:
            raise  # nothing ran
        except BaseException:
            await asyncio.to_thread(wipe, outputs)
            raise
        finally:
            await asyncio.to_thread(wipe, job.folder / "work")

    async def _try(self, engine: Engine, architecture: str) -> str:
        """Run a program that does nothing; why that does not work, empty when it does."""
        await engine.ready()
        with tempfile.TemporaryDirectory(dir=engine.home) as name:
            folder = Path(name)
            image = await asyncio.to_thread(write_tiny_image, folder / "image", architecture)
            if image is None:
                return f"there is no program to try it with for the processor {platform.machine()}."
            try:
                await engine.load(folder / "image", image)
                job = await asyncio.to_thread(_probe_job, folder, image)
                outcome = await run_container(job, engine, cancel=asyncio.Event(), started=lambda: None)
            except (InvalidInput, Unavailable) as error:
                return error.message
            said = await asyncio.to_thread((folder / "stderr").read_text)
        if outcome.exit_code != EXIT_CODE:
            return f"a program that does nothing failed in it: {outcome.detail or outcome.exit_code}."
        return said.strip()


def _told(error: FallowError | OSError) -> str:
    return f"{error.message} {error.hint}".strip() if isinstance(error, FallowError) else f"{error}."


def _podmans(cache: Path) -> Iterator[Engine]:
    """Ways to call podman, the best first."""
    for groups in (True, False):
        for runtime in find_runtimes():
            yield find_podman(cache, runtime, groups=groups)


def _dockers(cache: Path) -> Iterator[Engine]:
    yield find_docker(cache)


def _job(work: ContainerWork, assignment: Assignment, image: str) -> ContainerJob:
    workspace, resources = assignment.workspace, assignment.resources
    threads = str(max(1, resources.cpu_milli // 1000))
    env = {
        "HOME": "/work",
        "TZ": "UTC",
        "FALLOW_SEED": assignment.seed.hex(),
        # Libraries count the machine's processors, not the lease's.
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
    }
    return ContainerJob(
        name=_new_name(),
        image=image,
        entrypoint=tuple(work.entrypoint),
        args=tuple(work.args),
        workdir=work.workdir,
        env=env | work.env | _secrets(work, assignment),
        folder=workspace,
        memory_bytes_max=resources.memory_mib * _MIB,
        disk_bytes_max=max(resources.disk_mib, work.output_mib) * _MIB,
        cpu_milli=resources.cpu_milli,
        time_limit_s=assignment.time_limit_s,
        gpus=assignment.gpus,
    )


def _secrets(work: ContainerWork, assignment: Assignment) -> dict[str, str]:
    """Those that are the program's.

    Raises:
        InvalidInput: one does not fit into a container's environment.
    """
    found = {name: value for name, value in assignment.secrets.items() if name != work.pull_secret}
    broken = [name for name, value in found.items() if any(sign in name + value for sign in "\n\r\0")]
    if broken:
        raise InvalidInput("compute.secret", f"A container's variables hold no line breaks, but {broken[0]!a} does.")
    return found


def _probe_job(folder: Path, image: str) -> ContainerJob:
    _lay_out(folder)
    return ContainerJob(
        name=_new_name(),
        image=image,
        entrypoint=("/exit",),
        args=(),
        workdir="",
        env={},
        folder=folder,
        memory_bytes_max=64 * _MIB,
        disk_bytes_max=_MIB,
        cpu_milli=1000,
        time_limit_s=20,
    )


def _new_name() -> str:
    return f"fallow-{secrets.token_hex(8)}"


def _lay_out(folder: Path) -> None:
    """Make the folders that a container gets. It is another user, or several, and nobody else comes as far as here."""
    for name, mode in (("in", 0o755), ("out", 0o777), ("work", 0o777), (FOLDER, 0o777)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(mode)
    make_readable(folder / "in")
