"""Grants: no narrowing allows more, no link of the chain can be taken away, and keys open their part alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.errors import FallowError, InvalidInput, NotAllowed
from fallow.domain.grants import check_chain, new_credential, read_credential, root_key
from fallow.verticals.storage.client.granting import Home, Limits, Signing, narrowed, new_grant
from fallow.verticals.storage.client.keys import Keys
from fallow.verticals.storage.core import calls
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.calls.objects import Deletion, ListObjects
from fallow.verticals.storage.core.calls.uploads import ListUploads
from fallow.verticals.storage.core.grants import OPERATIONS, Caveat, admit, read_caveats

BUCKETS = ("photos", "photo")
ROOT = bytes(range(32))
ID = bytes(16)
KEYS = {bucket: Keys.under(ROOT, bucket, bytes) for bucket in BUCKETS}

few = ("a", "a/", "a/b", "a/b/", "ab", "ab/c", "b", "a/../b", "a/%2e", "a\0")
names = st.sampled_from(few) | st.text(st.sampled_from("ab/."), min_size=1, max_size=6)
paths = st.just("") | names | names.map(lambda name: f"{name}/")
# Most of what is drawn agrees: else hardly anything would be allowed, and nothing tried.
buckets = st.sampled_from(("photos", "photos", "photos", "photos", "photo"))
operations = st.just(list(OPERATIONS)) | st.lists(st.sampled_from(OPERATIONS), unique=True)
early = st.sampled_from((0, 0, 0, 5))
late = st.sampled_from((None, None, 8, 3))
rarely = st.sampled_from((False, False, False, True))
times = st.integers(min_value=0, max_value=8)


@st.composite
def caveats(draw: st.DrawFn) -> Caveat:
    bucket, path = draw(buckets), draw(paths)
    return Caveat(
        bucket=bucket,
        sealed=KEYS[bucket].seal_name(path.encode()),
        exact=bool(path) and not path.endswith("/"),
        allow=draw(operations),
        from_ms=draw(early),
        until_ms=draw(late),
    )


@st.composite
def asked(draw: st.DrawFn) -> Call[Any]:
    """Any call, of any names."""
    kind = draw(st.sampled_from(calls.CALLS))
    bucket = draw(buckets)
    sealed = KEYS[bucket].seal_name(draw(names).encode())
    known: dict[str, Any] = {
        "account": "",
        "bucket": bucket,
        "object": sealed,
        "prefix": draw(st.sampled_from([b"", sealed])),
        "deletions": [Deletion(object=sealed, null=draw(rarely))],
        "retention": "compliance" if draw(rarely) else "",
        "bypass": draw(rarely),
    }
    return kind(
        **{
            name: known.get(name, ID)
            for name in kind.__struct_fields__
            if name in known or name in kind.__annotations__
        }
    )


def allowed(call: Call[Any], held: list[Caveat], now_ms: int) -> Call[Any] | None:
    try:
        return admit(call, held, now_ms)
    except NotAllowed:
        return None


@settings(max_examples=150)
@given(st.lists(caveats(), max_size=4), caveats(), asked(), times)
def test_no_narrowing_ever_allows_more(held: list[Caveat], one: Caveat, call: Call[Any], now_ms: int) -> None:
    for at in range(len(held) + 1):
        more = [*held[:at], one, *held[at:]]
        done = allowed(call, more, now_ms)
        if done is not None and held:
            before = allowed(call, held, now_ms)
            assert before is not None
            assert done in (before, _new_alone(before)), "or it does less"


def _new_alone(call: Any) -> Any:
    only_if = getattr(call, "only_if", None)
    if only_if is None:
        return call
    return msgspec.structs.replace(call, only_if=msgspec.structs.replace(only_if, absent=True))


@settings(max_examples=150)
@given(caveats(), asked(), times)
def test_what_is_allowed_is_what_the_plain_names_say(one: Caveat, call: Call[Any], now_ms: int) -> None:
    """The oracle knows names, the network does not."""
    done = allowed(call, [one], now_ms)
    if done is None:
        return
    keys = KEYS[one.bucket]
    path = keys.open_names([one.sealed])[0].decode()
    assert getattr(call, "bucket", one.bucket) == one.bucket
    assert one.from_ms <= now_ms
    assert one.until_ms is None or now_ms < one.until_ms
    for deletion in [call, *getattr(call, "deletions", [])]:
        if sealed := getattr(deletion, "object", b""):
            name = keys.open_names([sealed])[0].decode()
            assert name == path if one.exact else name.startswith(path)
    if isinstance(call, ListObjects | ListUploads):
        assert not one.exact
        assert keys.open_names([call.prefix])[0].decode().startswith(path)


@given(asked(), times)
def test_without_a_caveat_nothing_is_allowed(call: Call[Any], now_ms: int) -> None:
    assert allowed(call, [], now_ms) is None


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=6), st.data())
def test_no_link_of_the_chain_can_be_taken_away_or_changed(data: list[bytes], draw: st.DataObject) -> None:
    root = root_key("secret")
    made = new_credential(root, "abcdefgh", ID, data[0])
    for caveat in data[1:]:
        made = made.narrowed(caveat)
    assert read_credential(made.text) == made
    assert len(check_chain(root, made)) == len(data)
    assert check_chain(root, made)[-1] == made.id
    other = draw.draw(st.lists(st.sampled_from([*data, b"", b"x"]), max_size=7).filter(lambda found: found != data))
    with pytest.raises(NotAllowed, match=r"auth\.grant"):
        check_chain(root, made._replace(caveats=tuple(other)))
    for changed in (made._replace(key_id="bbbbbbbb"), made._replace(nonce=b"x" * 16), made._replace(tag=bytes(32))):
        with pytest.raises(NotAllowed, match=r"auth\.grant"):
            check_chain(root, changed)
    with pytest.raises(NotAllowed, match=r"auth\.grant"):
        check_chain(root_key("other"), made)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: f"fg_abcdefgh_{data.hex()}"))
def test_what_is_no_credential_is_refused_in_words(text: str) -> None:
    with pytest.raises(NotAllowed, match=r"auth\.grant"):
        check_chain(root_key("secret"), read_credential(text))


@given(names, paths)
def test_keys_that_were_handed_on_open_their_part_and_nothing_beside_it(name: str, path: str) -> None:
    plain, whole = name.encode(), KEYS["photos"]
    part = Keys(whole.share(path.encode()), bytes)
    inside = name == path if path and not path.endswith("/") else name.startswith(path)
    sealed, document = whole.seal_name(plain), whole.seal(plain, "head", "text")
    if inside:
        assert part.seal_name(plain) == sealed
        assert part.open_names([sealed]) == [plain]
        assert part.secret_of(plain) == whole.secret_of(plain)
        assert part.etag(plain, "e") == whole.etag(plain, "e")
        assert part.open(plain, "head", document, str) == "text"
        assert part.check == whole.check
        return
    with pytest.raises(NotAllowed, match=r"storage\.outside"):
        part.secret_of(plain)
    with pytest.raises(NotAllowed, match=r"storage\.outside"):
        part.open(plain, "head", document, str)
    with pytest.raises(InvalidInput, match=r"storage\.name"):
        part.open_names([sealed])


@given(paths, paths)
def test_keys_handed_on_twice_are_those_handed_on_once(first: str, second: str) -> None:
    whole = KEYS["photos"]
    part = Keys(whole.share(first.encode()), bytes)
    try:
        again = part.share(second.encode())
    except NotAllowed:
        assert not second.startswith(first) or (first and not first.endswith("/") and second != first)
        return
    assert again == whole.share(second.encode())
    assert second.startswith(first)


@given(paths, paths, operations, operations, late)
def test_a_grant_made_of_another_is_narrower_or_is_not_made(
    path: str, path_below: str, allow: Any, allow_below: Any, until: int | None
) -> None:
    keys, made = KEYS["photos"], None
    try:
        made = new_grant(Signing("abcdefgh", "s"), keys, path, Limits(allow, 0, until), Home("http://x"), bytes)
        less = narrowed(made, path_below, Limits(allow_below, 0, 7))
    except FallowError as error:
        if made is not None and error.code in {"storage.outside", "storage.grant_wider"}:
            assert not path_below.startswith(path) or made.share.exact or not set(allow_below) <= set(allow)
        return
    assert path_below.startswith(path)
    assert set(less.limits.allow) == set(allow_below) <= set(allow)
    assert less.limits.until_ms == min(7, until or 7)
    credential = read_credential(less.credential)
    assert check_chain(root_key("s"), credential) == [made.id, less.id]
    assert read_caveats(credential.caveats)[-1].sealed == keys.seal_name(path_below.encode())
