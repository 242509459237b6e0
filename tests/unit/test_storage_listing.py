"""Lists between any delimiters are those of a plain model, whatever the pages."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.verticals.storage.client.store import Deleting, Ended, Head, Marks
from tests.storage_world import ACCOUNT, World, storage_world
from tests.unit.test_storage_client import body

names = st.text(st.sampled_from("ab/é~"), min_size=1, max_size=6)


def expected(keys: list[str], prefix: str, delimiter: str, after: str) -> list[tuple[bytes, bool]]:
    """What stands in a list, and whether it is a folder."""
    found: dict[bytes, bool] = {}
    for key in sorted(keys, key=str.encode):
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        shown = key[: at + len(delimiter)] if at >= 0 else key
        if at >= 0 and after.startswith(shown):
            continue
        if key.encode() > after.encode():
            found.setdefault(shown.encode(), at >= 0)
    return list(found.items())


async def listed(world: World, prefix: str, delimiter: str, after: str, limit: int) -> list[tuple[bytes, bool]]:
    found: list[tuple[bytes, bool]] = []
    while True:
        page = await world.store.names(ACCOUNT, "bucket", prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        here = [(entry.key.encode(), False) for entry in page.entries]
        here += [(folder.encode(), True) for folder in page.folders]
        assert len(here) <= limit
        found += sorted(here)
        if not page.more:
            return found
        assert len(here) == limit
        after = page.after


@settings(max_examples=60, deadline=None)
@given(
    st.lists(names, max_size=12, unique=True),
    st.text(st.sampled_from("ab/é"), max_size=3),
    st.sampled_from(["", "/", "a", "a/", "é", "//"]),
    st.one_of(st.just(""), names),
    st.integers(1, 5),
    st.integers(1, 4),
)
async def test_lists_are_those_of_a_model(
    keys: list[str], prefix: str, delimiter: str, after: str, limit: int, page_max: int
) -> None:
    async with storage_world() as world:
        for key in keys:
            await world.store.put(ACCOUNT, "bucket", key, body(b""), lambda: Ended("e", {}), head=Head(), marks=Marks())
        world.control.page_max = page_max
        assert await listed(world, prefix, delimiter, after, limit) == expected(keys, prefix, delimiter, after)


async def test_versions_are_listed_page_by_page() -> None:
    async with storage_world() as world:
        await world.store.set_bucket(ACCOUNT, "bucket", versioning="enabled", settings={})
        made = [
            await world.store.put(ACCOUNT, "bucket", key, body(b""), lambda: Ended("e", {}), head=Head(), marks=Marks())
            for key in "aabba"
        ]
        found, after, after_version, more = [], "", "", True
        while more:
            page = await world.store.names(
                ACCOUNT, "bucket", versions=True, limit=2, after=after, after_version=after_version
            )
            found += [entry.version for entry in page.entries]
            after, after_version, more = page.after, page.after_version, page.more
        assert found == [made[at].version for at in (4, 1, 0, 3, 2)]


async def test_a_list_goes_on_behind_a_version_that_is_gone() -> None:
    async with storage_world() as world:
        await world.store.set_bucket(ACCOUNT, "bucket", versioning="enabled", settings={})
        made = [
            await world.store.put(ACCOUNT, "bucket", "a", body(b""), lambda: Ended("e", {}), head=Head(), marks=Marks())
            for _ in range(4)
        ]
        page = await world.store.names(ACCOUNT, "bucket", versions=True, limit=2)
        await world.store.delete(ACCOUNT, "bucket", [Deleting(one.key, one.version) for one in page.entries])
        rest = await world.store.names(
            ACCOUNT, "bucket", versions=True, after=page.after, after_version=page.after_version
        )
        assert [one.version for one in rest.entries] == [made[1].version, made[0].version]


async def test_folders_by_a_delimiter_that_the_network_does_not_know_are_skipped_over() -> None:
    async with storage_world() as world:
        for folder in "ab":
            for number in range(300):
                key = f"{folder}-{number}"
                await world.store.put(
                    ACCOUNT, "bucket", key, body(b""), lambda: Ended("e", {}), head=Head(), marks=Marks()
                )
        world.control.asked.clear()
        page = await world.store.names(ACCOUNT, "bucket", delimiter="-")
        assert list(page.folders) == ["a-", "b-"]
        page = await world.store.names(ACCOUNT, "bucket", delimiter="-", limit=1)
        assert (list(page.folders), page.more, page.after) == (["a-"], True, "a-")
        assert world.control.asked["object.list"] <= 6
