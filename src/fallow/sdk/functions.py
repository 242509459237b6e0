"""Plain Python functions as work: packed here, called on somebody's machine, their results read without trusting them.

A function travels as cloudpickle has it, with what it uses of its own module; it is unpickled in the sandbox only. What
comes back is JSON or plain bytes and is never unpickled: a stranger's machine made it. So a function returns what JSON
can hold (None, booleans, numbers, text, lists, dicts with text as keys; tuples come back as lists), or bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import cloudpickle

from fallow.domain.errors import FallowError, InvalidInput, Unavailable
from fallow.sdk.bundle import PACKAGES, Bundle, Tell, build_bundle, silent
from fallow.sdk.metadata import Metadata
from fallow.sdk.results import ItemResult

ENTRY: Final = "call.py"
CALL: Final = "input"
"""Name under /in of a call's arguments."""
JSON_RESULT: Final = "result.json"
BYTES_RESULT: Final = "result.bin"

_CALL: Final = """\
import json, pickle
with open("/bundle/function.pkl", "rb") as file:
    function = pickle.load(file)
with open("/in/input", "rb") as file:
    args, kwargs = pickle.load(file)
value = function(*args, **kwargs)
if isinstance(value, (bytes, bytearray, memoryview)):
    with open("/out/result.bin", "wb") as file:
        file.write(value)
else:
    try:
        text = json.dumps(value, allow_nan=True)
    except (TypeError, ValueError) as error:
        raise SystemExit(f"A function must return what JSON can hold, or bytes: {error}")
    with open("/out/result.json", "w") as file:
        file.write(text)
"""


def pack_function(fn: Callable[..., object], *, dependencies: Sequence[str] = (), tell: Tell = silent) -> Bundle:
    """Bundle a function with the packages that it needs.

    Raises:
        InvalidInput: it cannot be pickled. Whatever `build_bundle` raises.
    """
    try:
        with _by_value(fn):
            pickled = cloudpickle.dumps(fn)
    except Exception as error:
        raise InvalidInput("function.pickle", f"The function cannot be sent: {error}.") from error
    package = Path(cloudpickle.__file__).parent
    files = {f"{PACKAGES}/cloudpickle/{path.name}": path.read_bytes() for path in package.glob("*.py")}
    files |= {ENTRY: _CALL.encode(), "function.pkl": pickled}
    return build_bundle(files, ENTRY, Metadata(tuple(dependencies)), tell=tell)


def pack_call(args: Iterable[object], kwargs: Mapping[str, object]) -> bytes:
    """Arguments as the function's side reads them; InvalidInput when they cannot be pickled."""
    try:
        return bytes(cloudpickle.dumps((tuple(args), dict(kwargs))))
    except Exception as error:
        raise InvalidInput("function.pickle", f"An argument cannot be sent: {error}.") from error


async def read_value(result: ItemResult) -> Any:  # noqa: ANN401 - whatever the function returned
    """Return what a function returned.

    Raises:
        InvalidInput: it raised; the message holds its traceback.
        Unavailable: it did not come to an end, or the node left something else than a result.
    """
    if not result.ok:
        raise await _failure(result)
    names = {output.name for output in result.outputs}
    if BYTES_RESULT in names:
        return await result.output(BYTES_RESULT)
    if JSON_RESULT not in names:
        raise Unavailable("function.no_result", f"Item {result.index} ended well and left no result.")
    try:
        return json.loads(await result.output(JSON_RESULT))
    except (ValueError, RecursionError) as error:
        raise Unavailable("function.no_result", f"Item {result.index} left a result that is no JSON.") from error


async def _failure(result: ItemResult) -> FallowError:
    where = f"Item {result.index} of job {result.job_id}"
    told = (await result.stderr()).decode(errors="replace").strip()
    if result.reason.startswith("program."):
        return InvalidInput("function.failed", f"{where} failed ({result.reason}):\n{told}")
    return Unavailable("function.lost", f"{where} was not done: {result.reason}.")


@contextmanager
def _by_value(fn: Callable[..., object]) -> Iterator[None]:
    """Send the function's own module along, where the node cannot have it: it is no installed package."""
    module = sys.modules.get(getattr(fn, "__module__", "") or "")
    if module is None or module.__name__ == "__main__" or not _is_own(module):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_own(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] in sys.stdlib_module_names:
        return False
    return not {"site-packages", "dist-packages"} & set(Path(file).parts)
