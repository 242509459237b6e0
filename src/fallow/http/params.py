"""What the routes take, each with its place and its bounds."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from fallow.domain.calls.base import Person
from fallow.domain.errors import InvalidInput
from fallow.domain.places import RESOLUTION_MAX
from fallow.http.gateway import Gateway

Parts = NamedDependency[Gateway]
Account = NamedDependency[str]
"""The account that the request's API key speaks for. Its parameter is called `payer`: with the name of a field of a
body, what is wrong with that field would count as ours."""

By = NamedDependency[Person]
"""Who asks with an operator's key."""

JobId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", max_length=32)]
SubscriptionId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", max_length=32)]
NodeId = Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$", max_length=64, description="A node's public key.")]
BlobName = Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$", max_length=64, description="A SHA-256.")]
WheelName = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9._+-]{1,200}\.whl$", max_length=204)]
TokenId = Annotated[str, PathParameter(pattern="^([0-9a-f]{2}){4,32}$", max_length=64)]
AfterKey = Annotated[
    str, QueryParameter(pattern=r"^[a-z2-7]{0,8}$(?!\n)", max_length=8, description="The last public part seen.")
]
KeyId = Annotated[str, PathParameter(pattern="^[A-Za-z0-9_-]{1,100}$")]
AccountId = Annotated[str, PathParameter(description="0x and 40 hex digits.", max_length=42)]

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]
Resolution = Annotated[int, QueryParameter(ge=0, le=RESOLUTION_MAX, description="Of H3: higher is finer.")]
Around = Annotated[
    str,
    QueryParameter(pattern=r"^(8[0-2][0-9a-f]{13})?$(?!\n)", max_length=15, description="A cell of H3."),
]
After = Annotated[int, QueryParameter(ge=-1, le=2**31 - 2, description="The last position seen.")]
AfterId = Annotated[
    str, QueryParameter(pattern=r"^([0-9a-f]{32})?$(?!\n)", max_length=32, description="The last id seen.")
]
AfterNode = Annotated[
    str, QueryParameter(pattern=r"^([0-9a-f]{64})?$(?!\n)", max_length=64, description="The last node seen.")
]
AfterSubject = Annotated[
    str,
    QueryParameter(
        pattern=r"^([0-9a-f]{64}|0x[0-9a-f]{40})?$(?!\n)", max_length=64, description="The last node or account seen."
    ),
]
AfterLine = Annotated[
    str, QueryParameter(pattern=r"^[0-9]{0,18}$(?!\n)", max_length=18, description="The last id seen.")
]


async def refuse_unknown_query(request: Request[Any, Any, Any]) -> None:
    """Refuse what the route does not know: a mistyped `limit` would else be no limit, in silence."""
    parameters = request.route_handler.parsed_fn_signature.parameters.items()
    known = {name for name, field in parameters if isinstance(field.kwarg_definition, QueryParameter)}
    for name in request.query_params:
        if name not in known:
            takes = f"It takes {', '.join(sorted(known))}." if known else "It takes none."
            raise InvalidInput("http.query", f"This route has no query parameter {name[:40]!r}.", takes)
