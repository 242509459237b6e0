"""The owner's hand on a running agent: a socket in its folder that only its user can open, JSON lines."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from fallow.agent.service import Agent
from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import KINDS, FallowError, InvalidInput, NotAllowed, NotFound, Unavailable

LINE_BYTES_MAX = 1 << 20
ANSWER_S = 30.0

Command = Literal["status", "why-idle", "pause", "resume", "drain", "lend", "lent", "hand-back", "leave"]


class _Ask(msgspec.Struct, forbid_unknown_fields=True):
    do: Command
    words: list[str] = []


class _Answer(msgspec.Struct, omit_defaults=True):
    ok: Any = None
    error: tuple[str, str, str, str] | None = None


@asynccontextmanager
async def serving(agent: Agent, path: Path) -> AsyncIterator[None]:
    """Obey on the socket at `path` while the context is open."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError):
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await _answer(agent, line)) + b"\n")
                await writer.drain()
        writer.close()

    with _bound(path) as listener:
        server = await asyncio.start_unix_server(talk, sock=listener, limit=LINE_BYTES_MAX)
        try:
            yield
        finally:
            server.close()


async def ask(path: Path, command: Command, *words: str) -> Any:  # noqa: ANN401 - what each command answers
    """Give a command to the agent whose socket is at `path`, and return its answer.

    `lend` takes a vertical and what, `hand-back` a vertical.

    Raises:
        NotFound: no agent runs there (`agent.not_running`).
        NotAllowed: another user's does (`agent.not_yours`).
        FallowError: as the agent raised it.
    """
    with _reachable(path) as short:
        try:
            reader, writer = await asyncio.open_unix_connection(short, limit=LINE_BYTES_MAX)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotFound(
                "agent.not_running", f"No agent runs in {path.parent}.", "Start it: fallow agent run"
            ) from None
        except PermissionError:
            raise _not_yours(path.parent) from None
    try:
        async with asyncio.timeout(ANSWER_S):
            writer.write(msgspec.json.encode(_Ask(command, list(words))) + b"\n")
            line = await reader.readline()
    except (TimeoutError, OSError) as error:
        raise Unavailable("agent.no_answer", "The agent does not answer.") from error
    finally:
        writer.close()
    if not line:
        raise Unavailable("agent.no_answer", "The agent ended before it answered.")
    answer = msgspec.json.decode(line, type=_Answer)
    if answer.error is not None:
        kind, code, message, hint = answer.error
        raise KINDS.get(kind, Unavailable)(code, message, hint)
    return answer.ok


async def _answer(agent: Agent, line: bytes) -> _Answer:
    try:
        try:
            asked = msgspec.json.decode(line, type=_Ask)
        except UNREADABLE as error:
            raise InvalidInput("agent.command", f"This is no command: {error}.") from error
        return _Answer(ok=await _obey(agent, asked))
    except FallowError as error:
        return _Answer(error=(type(error).__name__, error.code, error.message, error.hint))


async def _obey(agent: Agent, asked: _Ask) -> object:
    match asked.do:
        case "status":
            return await agent.full_status()
        case "why-idle":
            return await agent.why_idle()
        case "pause":
            await agent.pause()
        case "resume":
            await agent.resume()
        case "drain":
            await agent.drain()
        case "lend":
            agent.lend(*_words(asked, "a vertical", "what is lent"))
        case "lent":
            return await agent.overviews()
        case "hand-back":
            return await agent.hand_back(*_words(asked, "a vertical"))
        case "leave":
            agent.stop.set()
    return {}


def _words(asked: _Ask, *wanted: str) -> list[str]:
    """What comes behind a command, as much of it as is wanted."""
    if len(asked.words) != len(wanted):
        raise InvalidInput("agent.command", f"`{asked.do}` takes {' and '.join(wanted)}.")
    return asked.words


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        path.unlink(missing_ok=True)
        with _reachable(path) as short:
            listener.bind(short)
        path.chmod(0o600)  # before it listens: nobody has come in
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name for `path` that fits into a socket address, which takes about 100 bytes."""
    try:
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise NotFound("agent.not_joined", f"{path.parent} is not there.", "See: fallow agent join --help") from None
    except PermissionError:
        raise _not_yours(path.parent) from None
    try:
        yield f"/proc/self/fd/{fd}/{path.name}" if Path("/proc/self/fd").exists() else str(path)
    finally:
        os.close(fd)


def _not_yours(folder: Path) -> NotAllowed:
    hint = "Type it as the user who runs it, or name another folder: --home"
    return NotAllowed("agent.not_yours", f"The agent in {folder} is another user's.", hint)
