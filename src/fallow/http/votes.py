"""Votes of validators over HTTP: taken from whom the epoch's statement lists, and shown to everybody."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request, get, post

from fallow.domain.epochs.ballots import count, evidence, evidence_name, vote_name, voter
from fallow.domain.epochs.judging import root_of
from fallow.domain.epochs.manifest import path_of
from fallow.domain.epochs.quorum import VOTE_BYTES_MAX, Vote, quorum_of
from fallow.domain.epochs.statement import Statement
from fallow.domain.errors import Conflict, TooMuch
from fallow.domain.identity import address_text
from fallow.domain.views.votes import VotesView, WrongVoteView
from fallow.http.answers import public
from fallow.http.auth import anyone
from fallow.http.blobs import TakesBytes
from fallow.http.epochs import EpochNumber, archive_of, statement_of
from fallow.http.gateway import Gateway
from fallow.http.params import Parts
from fallow.ports.archive import whole
from fallow.ports.votes import published, votes_of


@post(
    "/v1/epochs/{epoch:int}/votes",
    guards=[anyone],
    operation_class=TakesBytes,
    responses=public(403, 404, 409, 413),
    tags=["epochs"],
)
async def vote(gateway: Parts, request: Request[Any, Any, Any], epoch: EpochNumber) -> VotesView:
    """Hand in a validator's vote (deterministic CBOR). The same again changes nothing; two that differ are evidence."""
    data = await _body(request)
    return await asyncio.to_thread(_take, gateway, epoch, data)


@get("/v1/epochs/{epoch:int}/votes", guards=[anyone], responses=public(404), tags=["epochs"])
async def votes(gateway: Parts, epoch: EpochNumber) -> VotesView:
    """Who signed an epoch's root, who signed another one, and whether a quorum did."""
    return await asyncio.to_thread(_view, gateway, epoch)


async def _body(request: Request[Any, Any, Any]) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > VOTE_BYTES_MAX:
            raise TooMuch("vote.too_large", f"A vote has at most {VOTE_BYTES_MAX} bytes.")
    return bytes(data)


def _take(gateway: Gateway, epoch: int, data: bytes) -> VotesView:
    archive, (statement, _) = archive_of(gateway), _statement(gateway, epoch)
    cast = Vote.decode(data)
    signer = voter(cast, statement)
    name = path_of(epoch, vote_name(signer))
    if not archive.create(name, data):
        first = Vote.decode(whole(archive, name, VOTE_BYTES_MAX))
        if first.about != cast.about:
            archive.create(path_of(epoch, evidence_name(signer)), evidence(first, cast))
            raise Conflict(
                "vote.twice", f"{address_text(signer)} has signed another root of epoch {epoch}: it is kept."
            )
    return _view(gateway, epoch)


def _view(gateway: Gateway, epoch: int) -> VotesView:
    statement, sealed = _statement(gateway, epoch)
    found = count(votes_of(archive_of(gateway), statement), statement)
    stated = root_of(statement, sealed)
    return VotesView(
        epoch=epoch,
        validators=[address_text(each) for each in statement.validators],
        quorum=quorum_of(len(statement.validators)) if statement.validators else 0,
        signed=[address_text(each) for each in found.roots.get(stated, ())],
        wrong=[
            WrongVoteView(validator=address_text(signer), differences=stated.differences(root))
            for root, signers in found.roots.items()
            if root != stated
            for signer in signers
        ],
        equivocated=[address_text(each) for each in found.equivocations],
        decided=found.decision is not None and found.decision.root == stated,
        published=published(archive_of(gateway), epoch),
    )


def _statement(gateway: Gateway, epoch: int) -> tuple[Statement, bytes]:
    sealed = statement_of(archive_of(gateway), epoch)
    return Statement.open(sealed, bytes.fromhex(gateway.network.public_key)), sealed


PUBLIC_ROUTES = [vote, votes]
