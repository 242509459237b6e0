"""What the lookup remembers is what the rule says of every node, whatever offers, rooms and wishes come."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.facts import OfferMade
from fallow.domain.matching import BUSY, Place, Wish, candidates, obstacles
from fallow.domain.offers import Offer
from fallow.domain.orders import Requirements
from fallow.domain.resources import Resources, Terms
from fallow.services.market import lookup
from fallow.services.market.floor import Floor, Slot

NOW = 1_000_000
few = st.integers(1, 3)


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    return Offer(
        node=bytes([draw(st.integers(0, 3))]) * 32,
        account=bytes(20),
        boot=1,
        made=OfferMade(
            offer=1,
            open=draw(st.sampled_from((True, True, False))),
            total=Resources(cpu_milli=draw(few) + 1, memory_mib=draw(few) + 1),
            terms=Terms(price_microusd_per_core_hour=1000 * draw(few)),
            attributes=draw(st.sampled_from(({"a": "1"}, {"a": "1"}, {"a": "2"}))),
            country=draw(st.sampled_from(("", "DE"))),
        ),
    )


wishes = st.builds(
    Wish,
    st.builds(
        Requirements,
        cpu_milli=few,
        memory_mib=few,
        disk_mib=st.just(0),
        countries=st.sampled_from(([], [], ["DE"])),
        nodes_denied=st.sampled_from(([], [(bytes([0]) * 32).hex()])),
    ),
    st.sampled_from(({}, {"a": "1"})),
    st.sampled_from((3, 10, 10)),
    st.sampled_from(("new", "new", "proven")),
)
steps = st.one_of(offers(), st.integers(0, 2), st.tuples(st.integers(0, 3), st.integers(0, 3)))
"""An offer; a wish, by its number; room taken of a node."""


def place(slot: Slot) -> Place:
    number = slot.offer.node[0]
    return slot.place(NOW, suspended=number == 3, banned=number == 2, trust="proven" if number else "new")


@settings(max_examples=150)
@given(st.lists(wishes, min_size=3, max_size=3), st.lists(steps, min_size=15, max_size=40), st.integers(1, 4))
def test_choice_is_what_a_look_at_every_node_finds(
    wanted: list[Wish], story: list[Offer | int | tuple[int, int]], remembered: int
) -> None:
    floor, seen = Floor(), lookup.Lookup(wishes_max=remembered)
    for step in story:
        match step:
            case Offer():
                slot = floor.slots.get(step.node)
                before = slot.at_best if slot else None
                floor.offer(step, NOW)
                seen.replace(floor.slots[step.node], before)
            case int():
                wish = wanted[step]
                choice = lookup.Choices(seen, floor.slots, place).of(wish)
                places = [place(slot) for slot in floor.slots.values()]
                assert [slot.offer.node for slot in choice] == [found.node for found in candidates(places, wish)]
                here = {found.node for found in places if obstacles(found, wish) in {(), (BUSY,)}}
                assert {slot.offer.node for slot in choice.here(lambda _: True)} == here
            case (number, taken):
                node = bytes([number]) * 32
                if node in floor.slots:
                    floor.slots[node].free = Resources(cpu_milli=3 - taken, memory_mib=3)


@given(st.lists(offers(), min_size=10, max_size=10), wishes, st.data())
def test_who_is_filled_in_the_round_is_not_chosen_again(given_: list[Offer], wish: Wish, data: st.DataObject) -> None:
    floor = Floor()
    for offer in given_:
        floor.offer(offer, NOW)
    choice = lookup.Choices(lookup.Lookup(), floor.slots, place).of(wish)
    while slots := list(choice):
        chosen = data.draw(st.sampled_from(slots))
        chosen.free = chosen.free.minus(wish.requirements.resources)
        wanted = [found.node for found in candidates(map(place, floor.slots.values()), wish)]
        assert {slot.offer.node for slot in choice} == set(wanted)


@settings(max_examples=150)
@given(st.lists(offers(), max_size=6), wishes, st.lists(st.lists(offers(), max_size=3), min_size=6, max_size=6))
def test_offers_that_change_while_a_wish_is_learnt_are_seen(
    given_: list[Offer], wish: Wish, meanwhile: list[list[Offer]]
) -> None:
    floor, seen = Floor(), lookup.Lookup()

    def put_up(offer: Offer) -> None:
        slot = floor.slots.get(offer.node)
        before = slot.at_best if slot else None
        floor.offer(offer, NOW)
        seen.replace(floor.slots[offer.node], before)

    for offer in given_:
        put_up(offer)
    key = lookup.key_of(wish)
    for _, changed in zip(seen.learn(key, wish, floor.slots.values(), at_once=1), meanwhile, strict=False):
        for offer in changed:
            put_up(offer)
    learnt, looked = seen.able(key, wish, ()), lookup.Lookup().able(key, wish, floor.slots.values())
    assert learnt == looked


def test_a_wish_is_learnt_once() -> None:
    seen, wish = lookup.Lookup(), Wish(Requirements(), {}, 10)
    assert len(list(seen.learn(b"key", wish, [], at_once=1))) == 0
    assert seen.able(b"key", wish, iter([])) == []
