"""Closing an epoch, and closing it again: the files that follow from its records, and its statement. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.folding import Folded, fold, fold_read
from fallow.domain.epochs.judging import Close, Inputs, Redone, close_without_policies
from fallow.domain.epochs.leaves import LEAF_BYTES, totals_of, tree_over, write_leaves
from fallow.domain.epochs.lines import LINES, write_lines
from fallow.domain.epochs.manifest import File
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.parts import ALONE, FiledEpoch, Spread, read_spread
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules, policies_of, rules_of
from fallow.domain.epochs.state import STATE, amount, read_state, write_state
from fallow.domain.epochs.statement import NONE
from fallow.domain.rewards.tree import Mapper, root_of

LEAVES = "leaves"
TREE = "tree"
"""File with the nodes of the tree over the leaves: what proofs are read from. No statement names it: it follows."""


class Closing(NamedTuple):
    """The files that an epoch ends in, by name, what of its statement follows, and the tree over its leaves."""

    folded: Folded
    files: dict[str, bytes]
    fields: dict[str, Any]
    tree: bytes


def close(
    opening: bytes, epoch: Epoch, records: Iterable[Filed], rules: Rules, verticals: Mapping[str, Metering]
) -> Closing:
    """Close an epoch. `opening` is the file `state` of the one before, or nothing before the first.

    Raises:
        InvalidInput: `epoch.state`: that file is malformed.
    """
    return _closed(opening, fold(read_state(opening), epoch, records, rules, verticals), rules, verticals)


def close_filed(
    opening: bytes, filed: FiledEpoch, rules: Rules, verticals: Mapping[str, Metering], spread: Spread = ALONE
) -> Closing:
    """Close an epoch whose files this process's own network wrote, faster with several processors.

    Raises as `close`.
    """
    state = read_state(opening)
    folded = fold_read(state, filed.epoch, read_spread(opening, filed, verticals, spread), rules, verticals)
    return _closed(opening, folded, rules, verticals, spread.hashing)


def _closed(
    opening: bytes, folded: Folded, rules: Rules, verticals: Mapping[str, Metering], hashing: Mapper = map
) -> Closing:
    files = {
        LEAVES: write_leaves(folded.leaves),
        LINES: write_lines(folded.lines),
        STATE: write_state(folded.state),
    }
    counts = {LEAVES: len(folded.leaves), LINES: len(folded.lines), STATE: len(folded.state.owners)}
    totals, tree = totals_of(folded.leaves), tree_over(folded.leaves, hashing)
    return Closing(
        folded,
        files,
        {
            "opening": hashlib.sha256(opening).digest() if opening else NONE,
            "closing": hashlib.sha256(files[STATE]).digest(),
            "files": [
                File(name=name, size=len(data), sha256=hashlib.sha256(data).digest(), count=counts[name])
                for name, data in files.items()
            ],
            "policies": policies_of(rules, verticals),
            "totals": {name: amount(value) for name, value in sorted(folded.totals.items())},
            "seed": folded.seed,
            "root": root_of(tree),
            "leaf_count": len(files[LEAVES]) // LEAF_BYTES,
            "settlement": rules.settlement,
            "token": rules.token,
            "settlement_total": amount(totals.get(rules.settlement, 0)),
            "token_total": amount(totals.get(rules.token, 0)),
        },
        tree,
    )


def closer(network_key: bytes, meterings: Mapping[str, Metering]) -> Close:
    """Make what closes an epoch of a network again, as its statement says, under the policies that it pins."""

    def redo(inputs: Inputs) -> Redone:
        said = inputs.statement
        if not said.policies:
            return close_without_policies(inputs)
        rules, used = rules_of(said.policies, meterings)
        epoch = Epoch(said.net, said.epoch, said.until_ms, network_key)
        closing = close(inputs.opening, epoch, inputs.records, rules, used)
        return Redone(msgspec.structs.replace(said, **closing.fields), closing.files[STATE])

    return redo
