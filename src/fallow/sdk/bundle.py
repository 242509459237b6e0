"""Scripts and what they need, packed on the buyer's machine into one archive that a node can run without network.

The packages come from the index that the buyer's own pip or uv is configured for. The archive is reproducible (the
same contents give the same bytes) and kept under ~/.cache/fallow/bundles, so that it is made once for a script. Those
that were not used for longest go when there are too many.
"""

from __future__ import annotations

import hashlib
import os
import platform as machine
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fallow.domain.errors import InvalidInput, TooMuch, Unavailable
from fallow.sdk.metadata import Metadata, fits, read_metadata
from fallow.verticals.compute.core.work import PLATFORM_ANY

Tell = Callable[[str], None]

LAYOUT: Final = 1
"""Counts up when an archive would be made otherwise than before, so that older ones are not used."""
SCRIPT_BYTES_MAX: Final = 16 << 20
KEPT_BYTES_MAX: Final = 2 << 30
"""Archives that are kept, in all; a new one may be larger alone."""
IN_USE_S: Final = 3600
"""An archive that was used so lately may be on its way to a network, and stays."""
ENTRY: Final = "script.py"
PACKAGES: Final = "site-packages"
_PIECE: Final = 1 << 20
_NATIVE: Final = (".so", ".pyd", ".dylib")
_LINUX: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
_GLIBC_NEWEST: Final = 28
_GLIBC_OLDEST: Final = 17
_MARKS: Final = (".pyc", ".pyo")
_LEFT_OUT: Final = frozenset({"__pycache__", "bin", "direct_url.json", "INSTALLER", "REQUESTED", "RECORD"})
_ERROR_LINES: Final = 12
_TRUST: Final = {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
"""Have uv, by its newer and its older word for it, trust the authorities that this machine trusts, as pip does."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """An archive, and what a node must have to run it. Sizes in bytes."""

    path: Path
    entry: str
    python: str
    platform: str
    archive_bytes: int
    unpacked_bytes: int


class Target(NamedTuple):
    """What a bundle is made for: a version of Python (`3.11`) and a processor (`x86_64`), on Linux with glibc."""

    python: str
    processor: str


def silent(_: str) -> None:
    """Tell nobody."""


def running_python() -> str:
    """Version of the Python that runs this, for example `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def bundle_script(script: Path, *, python: str | None = None, tell: Tell = silent) -> Bundle:
    """Pack a script with the dependencies that its inline metadata name.

    Args:
        script: the script.
        python: version that it is to run on; the running one when it is not given.
        tell: is told what takes long.

    Raises:
        InvalidInput: the script is no text, its metadata are malformed, or do not allow that version.
        Unavailable: neither pip nor uv is there, or the packages cannot be had.
        TooMuch: the script is too long.
    """
    source = script.read_bytes()
    if len(source) > SCRIPT_BYTES_MAX:
        raise TooMuch("bundle.script", f"{script} has more than {SCRIPT_BYTES_MAX} bytes.")
    try:
        metadata = read_metadata(source.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidInput("bundle.script", f"{script} is no text in UTF-8.") from error
    return build_bundle({ENTRY: source}, ENTRY, metadata, python=python, tell=tell)


def build_bundle(
    files: Mapping[str, bytes], entry: str, metadata: Metadata, *, python: str | None = None, tell: Tell = silent
) -> Bundle:
    """Pack files by their path in the bundle, with the packages that `metadata` name; see `bundle_script`.

    Raises:
        InvalidInput: the script wants another Python (`bundle.python`), or see `install`.
    """
    target = Target(python or running_python(), _LINUX.get(machine.machine().lower(), "x86_64"))
    if not fits(target.python, metadata.requires_python):
        raise InvalidInput(
            "bundle.python",
            f"The script requires Python {metadata.requires_python}; it was to be bundled for {target.python}.",
            "Name another version with --python (or python=).",
        )
    key = _key(files, metadata, target)
    folder = _cache()
    path, note = folder / f"{key}.zip", folder / f"{key}.json"
    try:
        found = msgspec.json.decode(note.read_bytes(), type=Bundle, dec_hook=lambda _, text: Path(text))
        if path.stat().st_size == found.archive_bytes:
            path.touch()
            return msgspec.structs.replace(found, path=path)
    except (OSError, msgspec.MsgspecError):
        pass  # it has not been made yet, or not to its end
    with tempfile.TemporaryDirectory(dir=folder) as name:
        packages = Path(name, PACKAGES)
        if metadata.dependencies:
            tell(f"Bundling {', '.join(metadata.dependencies)} for Python {target.python} ...")
            install(metadata.dependencies, packages, target)
        contents: dict[str, bytes | Path] = {f"{PACKAGES}/{at}": found for at, found in _packages(packages)}
        contents.update(files)
        native = any(at.endswith(_NATIVE) for at in contents)
        draft = Path(name, "bundle.zip")
        unpacked_bytes = write_archive(draft, contents)
        made = Bundle(
            path=path,
            entry=entry,
            python=target.python,
            platform=f"linux-{target.processor}" if native else PLATFORM_ANY,
            archive_bytes=draft.stat().st_size,
            unpacked_bytes=unpacked_bytes,
        )
        draft.replace(path)
        Path(name, "note").write_bytes(msgspec.json.encode(made, enc_hook=str))
        Path(name, "note").replace(note)
    _forget_old(folder)
    return made


def write_archive(path: Path, contents: Mapping[str, bytes | Path]) -> int:
    """Write a ZIP archive whose bytes depend on names and contents only; the bytes that it unpacks to."""
    total = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(contents):
            content = contents[name]
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            if isinstance(content, Path):
                entry.file_size = content.stat().st_size
                with content.open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, _PIECE)
            else:
                archive.writestr(entry, content)
            total += entry.file_size
    return total


def install(dependencies: Iterable[str], folder: Path, target: Target) -> None:
    """Put packages and all that they need into a folder: built ones only, nothing of them runs here.

    Raises:
        Unavailable: see `bundle_script`.
    """
    command = _installer(folder, target)
    try:
        done = subprocess.run(  # noqa: S603 - the buyer's own tool, packages after "--"
            [*command, "--", *dependencies], env=_TRUST | os.environ, capture_output=True, text=True, errors="replace",
            check=False,
        )  # fmt: skip
    except OSError as error:
        raise Unavailable("bundle.no_installer", f"{command[0]} does not start: {error.strerror}.") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()][-_ERROR_LINES:]
        raise Unavailable(
            "bundle.packages",
            "The packages cannot be had:\n" + "\n".join(lines),
            f"Nodes run built packages for Linux and Python {target.python}; each must exist as a wheel on your index.",
        )


def _installer(folder: Path, target: Target) -> list[str]:
    glibc = f"manylinux_2_{_GLIBC_NEWEST}"
    if uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--python-version", target.python]
        command += ["--python-platform", f"{target.processor}-{glibc}", "--only-binary", ":all:"]
        return [*command, "--target", str(folder)]
    if find_spec("pip") is None:
        raise Unavailable(
            "bundle.no_installer", "Neither uv nor pip is installed here.", "Install one of them: it fetches packages."
        )
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--no-input", "--no-warn-conflicts", "--only-binary", ":all:", "--implementation", "cp"]
    command += ["--python-version", target.python]
    # pip takes each of these as it is, and not what is older along with it.
    tags = [f"manylinux_2_{minor}" for minor in range(_GLIBC_NEWEST, _GLIBC_OLDEST - 1, -1)]
    for tag in [*tags, "manylinux2014", "linux"]:
        command += ["--platform", f"{tag}_{target.processor}"]
    return [*command, "--target", str(folder)]


def _packages(folder: Path) -> Iterable[tuple[str, Path]]:
    """Files under `folder` by their path, but for what differs from one installation to the next."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        dropped = parts[0] == "bin" or parts[-1] in _LEFT_OUT - {"bin"} or "__pycache__" in parts
        if path.is_file() and not path.is_symlink() and not dropped and path.suffix not in _MARKS:
            yield "/".join(parts), path


def _key(files: Mapping[str, bytes], metadata: Metadata, target: Target) -> str:
    named = [(name, hashlib.sha256(files[name]).hexdigest()) for name in sorted(files)]
    parts = (LAYOUT, named, sorted(metadata.dependencies), target, _GLIBC_NEWEST)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _forget_old(folder: Path) -> None:
    """Delete the archives that were not used for longest, and their notes, until the rest is small enough."""
    used = sorted(((path.stat(), path) for path in folder.glob("*.zip")), key=lambda one: one[0].st_mtime, reverse=True)
    newest, kept = used[0][0].st_mtime, 0
    for status, path in used:
        kept += status.st_size
        if kept > KEPT_BYTES_MAX and newest - status.st_mtime > IN_USE_S:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fallow" / "bundles"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
