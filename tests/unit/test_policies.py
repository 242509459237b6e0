"""Released policies: each makes of the golden epochs what it always made."""

from __future__ import annotations

import msgspec
import pytest

from fallow.domain.epochs import rules as rules_
from fallow.domain.epochs.rules import Rules, policies_of, rules_of
from fallow.domain.epochs.statement import Policy
from fallow.domain.errors import InvalidInput
from fallow.verticals.compute.core.metering import ComputeMetering
from fallow.verticals.storage.core.metering import StorageMetering
from tests.epoch_world import METERINGS, WORK_ONLY
from tests.golden_cases import stored
from tests.golden_epoch import golden_digest, golden_epoch
from tests.golden_storage import golden_storage


def test_every_version_makes_of_the_golden_epochs_what_it_always_made() -> None:
    digest = golden_digest(stored("epoch"), METERINGS)
    assert digest.hex() == rules_.DIGEST.hex(), "A released policy was changed: make a new version beside it."
    assert digest.hex() == ComputeMetering.digest.hex()


def test_storages_policy_makes_of_its_golden_epochs_what_it_always_made() -> None:
    digest = golden_digest(stored("storage"), {"storage": StorageMetering()})
    assert digest.hex() == StorageMetering.digest.hex(), "A released policy was changed: make a new version beside it."


def test_the_golden_epochs_are_those_that_are_kept() -> None:
    assert golden_epoch() == stored("epoch")
    assert golden_storage() == stored("storage")


@pytest.mark.parametrize("rules", [Rules(), WORK_ONLY])
def test_a_statement_says_all_that_the_policies_need(rules: Rules) -> None:
    policies = [Policy(**msgspec.to_builtins(one, builtin_types=(bytes,))) for one in policies_of(rules, METERINGS)]
    assert rules_of(policies, METERINGS) == (rules, METERINGS)


@pytest.mark.parametrize("place", [0, 1])
def test_a_policy_that_is_not_here_is_named(place: int) -> None:
    policies = policies_of(Rules(), METERINGS)
    policies[place] = msgspec.structs.replace(policies[place], version=2)
    with pytest.raises(InvalidInput, match=rf"{policies[place].name} 2"):
        rules_of(policies, METERINGS)
