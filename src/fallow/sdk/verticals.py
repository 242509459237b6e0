"""What is asked of the network's side of a vertical in its own words."""

from __future__ import annotations

from fallow.domain.errors import FallowError
from fallow.sdk.wire import Wire, error_of

BYTES = "application/octet-stream"


class VerticalCalls(Wire):
    """Calls of verticals, for those who know what they mean."""

    async def ask_vertical(
        self, vertical: str, call: str, body: bytes, *, again: bool = False, operator: bool = False
    ) -> bytes:
        """Ask a call of a vertical, and return its answer; both are msgpack, as the vertical defines them.

        `operator`: it is one that the network's operators alone may ask.
        `again` says whether asking twice does no harm. What the vertical itself says no to is not asked again.
        """
        path = f"/v1/{'operator/' * operator}verticals/{vertical}/{call}"

        async def attempt() -> bytes | FallowError:
            response = await self._http.post(path, content=body, headers={"Content-Type": BYTES})
            if response.is_success:
                return response.content
            error = error_of(response, response.content)
            if error.code.startswith(f"{vertical}."):
                return error
            raise error

        answer = await self._trying(attempt, again=again)
        if isinstance(answer, FallowError):
            raise answer
        return answer
