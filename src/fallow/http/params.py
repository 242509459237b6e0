"""What the routes take, each with its place and its bounds."""

from __future__ import annotations

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from fallow.http.gateway import Gateway

Parts = NamedDependency[Gateway]
Account = NamedDependency[str]
"""The account that the request's API key speaks for."""

JobId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", max_length=32)]
SubscriptionId = Annotated[str, PathParameter(pattern="^[0-9a-f]{32}$", max_length=32)]
BlobName = Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$", max_length=64, description="A SHA-256.")]
WheelName = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9._+-]{1,200}\.whl$", max_length=204)]
KeyId = Annotated[str, PathParameter(pattern="^[A-Za-z0-9_-]{1,100}$")]
AccountId = Annotated[str, PathParameter(description="0x and 40 hex digits.", max_length=42)]

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many at most.")]
After = Annotated[int, QueryParameter(ge=-1, le=2**31, description="The last position seen.")]
AfterId = Annotated[str, QueryParameter(max_length=100, description="The last id seen.")]
