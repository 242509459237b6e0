"""Which operation a request asks for: whatever S3 has besides is refused, and never taken for something else."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.model import OperationModel, ServiceModel

from fallow.verticals.storage.gateway import table
from fallow.verticals.storage.gateway.errors import S3Error
from fallow.verticals.storage.gateway.heads import head_of
from fallow.verticals.storage.gateway.request import Request
from fallow.verticals.storage.gateway.routes import buckets, deleting, lists, objects, posting
from tests.unit.fake_network import HandClock

MODEL: ServiceModel = botocore.session.get_session().get_service_model("s3")
OPERATIONS: list[OperationModel] = [MODEL.operation_model(name) for name in MODEL.operation_names]
PLAIN = {
    buckets.create_bucket,
    buckets.delete_bucket,
    buckets.head_bucket,
    lists.list_objects,
    objects.get_object,
    objects.put_object,
    deleting.delete_object,
    posting.post_object,
}


def asked(method: str, target: str) -> Request:
    path, _, query = target.partition("?")
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
    request = Request(scope | {"query_string": query.encode()}, never, HandClock())
    request.split()
    return request


async def never() -> dict[str, Any]:
    raise AssertionError("No body is read for that.")


def words(operation: OperationModel) -> list[str]:
    """The words in its query that say what is asked for."""
    query = operation.http["requestUri"].partition("?")[2]
    return [word for word in query.split("&") if word and "=" not in word]


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if words(one)], ids=lambda one: one.name)
def test_no_operation_of_s3_with_a_word_of_its_own_is_taken_for_a_plain_one(operation: OperationModel) -> None:
    target = operation.http["requestUri"].replace("{Bucket}", "bucket").replace("{Key+}", "key")
    assert table.find(asked(operation.http["method"], target)).handler not in PLAIN


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
@pytest.mark.parametrize("at", ["/bucket", "/bucket/key"])
def test_a_change_with_a_word_that_nobody_knows_is_refused(method: str, at: str) -> None:
    for query in ("future", "future=", "future&x-id=Any"):
        assert table.find(asked(method, f"{at}?{query}")).handler is table.not_implemented


def test_what_says_nothing_of_the_operation_changes_it_not() -> None:
    for query in ("x-id=PutObject", "X-Amz-Expires=9&X-Amz-Security-Token=", "mine=1"):
        assert table.find(asked("PUT", f"/bucket/key?{query}")).handler is objects.put_object
    assert table.find(asked("DELETE", "/bucket/key?versionId=")).handler is deleting.delete_object
    assert table.find(asked("GET", "/bucket/key?20300101")).handler is objects.get_object


@pytest.mark.parametrize(
    "name",
    [
        "x-amz-write-offset-bytes",
        "x-amz-object-lock-event-hold",
        "x-amz-object-lock-event-hold-duration-days",
        "x-amz-server-side-encryption-customer-key",
    ],
)
def test_what_a_write_asks_for_and_nobody_does_is_refused(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        head_of({name: "1"})
    assert caught.value.code == "NotImplemented"
