"""What only the operator of the network may do, and what viewers may see of it: every GET here."""

from __future__ import annotations

from contextlib import suppress

from litestar import delete, get, post
from litestar.params import JSONBody
from msgspec.structs import asdict

from fallow.domain import calls
from fallow.domain.errors import NotFound, Unavailable
from fallow.domain.identity import address
from fallow.domain.views.actions import ActionView, BanView, EnrolledView
from fallow.domain.views.audits import AuditBegunView, AuditView, LedgerCheckView
from fallow.domain.views.checks import EvidenceView, RerunView
from fallow.domain.views.governance import GovernanceView
from fallow.domain.views.keys import KeyView, TokenView
from fallow.domain.views.market import NodesAtView
from fallow.domain.views.money import BalanceView, PurseView, ReserveUseView, ReserveView
from fallow.domain.views.processes import BlobsView, MishapView, RunningView
from fallow.http.answers import keyed
from fallow.http.auth import operator, viewer
from fallow.http.params import AccountId, AfterId, AfterKey, AfterNode, AfterSubject, By, KeyId, Limit, Parts, TokenId
from fallow.http.processes import running_view
from fallow.ports.mishaps import MISHAPS
from fallow.ports.rpc import Empty

ROLES = ("core", "registry", "ingest", "settle", "market", "epochs")


@post("/v1/operator/tokens", guards=[operator], responses=keyed(413), tags=["operator"])
async def create_token(gateway: Parts, by: By, data: JSONBody[calls.keys.CreateToken]) -> calls.keys.Secret:
    """Make a token that lets machines join. It is shown once."""
    return await gateway.ask(calls.keys.CREATE_TOKEN, calls.keys.MakeToken(**asdict(data), by=by), calls.keys.Secret)


@post("/v1/operator/keys", guards=[operator], responses=keyed(404, 413), tags=["operator"])
async def create_key(gateway: Parts, by: By, data: JSONBody[calls.keys.CreateKey]) -> calls.keys.Secret:
    """Make an API key. It is shown once."""
    return await gateway.ask(calls.keys.CREATE_KEY, calls.keys.MakeKey(**asdict(data), by=by), calls.keys.Secret)


@delete("/v1/operator/keys/{key_id:str}", guards=[operator], responses=keyed(404), tags=["operator"])
async def revoke_key(gateway: Parts, by: By, key_id: KeyId) -> None:
    """End an API key. Other processes of the network forget it within seconds."""
    await gateway.ask(calls.keys.REVOKE_KEY, calls.keys.RevokeKey(key_id=key_id, by=by), Empty)
    gateway.keys.forget(key_id)
    gateway.sessions.forget(key_id)


@get("/v1/operator/keys", guards=[viewer], responses=keyed(), tags=["operator"])
async def keys(gateway: Parts, after: AfterKey = "", limit: Limit = 200) -> list[KeyView]:
    """API keys by their public part, those that were revoked too. Their secrets are kept nowhere."""
    return await gateway.ask(calls.keys.KEYS, calls.base.Page(after=after, limit=limit), list[KeyView])


@get("/v1/operator/tokens", guards=[viewer], responses=keyed(), tags=["operator"])
async def tokens(gateway: Parts) -> list[TokenView]:
    """Join tokens that still let machines in, those that end last first."""
    return await gateway.ask(calls.keys.TOKENS, {}, list[TokenView])


@delete("/v1/operator/tokens/{token_id:str}", guards=[operator], responses=keyed(404), tags=["operator"])
async def revoke_token(gateway: Parts, by: By, token_id: TokenId) -> None:
    """End a join token. Machines that joined with it stay."""
    await gateway.ask(calls.keys.REVOKE_TOKEN, calls.keys.RevokeToken(token_id=token_id, by=by), Empty)


@post("/v1/operator/credits", guards=[operator], responses=keyed(404, 409, 413), tags=["operator"])
async def grant(gateway: Parts, by: By, data: JSONBody[calls.money.Grant]) -> BalanceView:
    """Give an account TEST credits, which nothing backs. An address that nobody here has is refused: see it again."""
    await gateway.ask(calls.keys.KNOWN_ACCOUNT, calls.base.AccountRef(account=data.account), Empty)
    return await gateway.ask(calls.money.GRANT, calls.money.GiveGrant(**asdict(data), by=by), BalanceView)


@get("/v1/operator/ledger-check", guards=[viewer], responses=keyed(), tags=["operator"])
async def ledger_check(gateway: Parts) -> LedgerCheckView:
    """Add the whole ledger up, for all who ask at a time; soon after that the answer is the same."""
    return await gateway.ask(calls.money.LEDGER_CHECK, {}, LedgerCheckView)


@post("/v1/operator/audits", guards=[operator], responses=keyed(), tags=["operator"])
async def begin_audit(gateway: Parts, by: By) -> AuditBegunView:
    """Have the ledger held against the archive and the chain, item by item. It goes on by itself."""
    return AuditBegunView(asked_at=await gateway.ask(calls.money.AUDIT, calls.money.BeginAudit(by=by), int))


@get("/v1/operator/audits", guards=[viewer], responses=keyed(), tags=["operator"])
async def audits(gateway: Parts) -> list[AuditView]:
    """What the latest audit that is over has found; the network audits itself all the time."""
    return await gateway.ask(calls.money.AUDITED, {}, list[AuditView])


@get("/v1/operator/reserve", guards=[viewer], responses=keyed(), tags=["operator"])
async def reserve(gateway: Parts) -> ReserveView:
    """What is in the reserve, and what it was used for."""
    purse = await gateway.ask(calls.money.RESERVE, {}, PurseView)
    return ReserveView(purse=purse, uses=await gateway.ask(calls.money.RESERVE_USES, {}, list[ReserveUseView]))


@get("/v1/operator/blobs", guards=[viewer], responses=keyed(), tags=["operator"])
async def blobs(gateway: Parts) -> BlobsView:
    """What this gateway found when it last looked for blobs that nobody needs."""
    return gateway.collector.view


@get("/v1/operator/health", guards=[viewer], responses=keyed(), tags=["operator"])
async def health(gateway: Parts) -> list[MishapView]:
    """What failed unexpectedly since the processes started: in this gateway, and in one of each role that runs."""
    found = {"gateway": MISHAPS.counts()}
    for role in ROLES:
        with suppress(Unavailable):  # a role that has no process of its own
            found[role] = await gateway.ask(calls.processes.mishaps(role), {}, dict[str, int])
    return [
        MishapView(role=role, place=place, count=count)
        for role, counts in found.items()
        for place, count in sorted(counts.items())
    ]


@get("/v1/operator/running", guards=[viewer], responses=keyed(), tags=["operator"])
async def running(gateway: Parts) -> RunningView:
    """Which roles run, and what their processes tell of themselves: queues, lag, nodes by state."""
    return running_view(gateway.processes)


@get("/v1/operator/nodes-over-time", guards=[viewer], responses=keyed(), tags=["operator"])
async def nodes_over_time(gateway: Parts) -> list[NodesAtView]:
    """Nodes by state every five minutes of the last day, as far back as this gateway runs, the latest last."""
    return list(gateway.processes.nodes)


@get("/v1/operator/governance", guards=[viewer], responses=keyed(404), tags=["operator"])
async def governance(gateway: Parts) -> GovernanceView:
    """Parameters of the network's contracts, and each change that waits in their timelock, from the chain itself."""
    if not gateway.network.chain_id:
        raise NotFound("chain.none", "This network has no chain.", "Those of the preset public have one.")
    return await gateway.ask(calls.tokens.GOVERNANCE, {}, GovernanceView)


@get("/v1/operator/accounts/{account_id:str}/balance", guards=[viewer], responses=keyed(), tags=["operator"])
async def balance(gateway: Parts, account_id: AccountId) -> BalanceView:
    """Any account's credits."""
    address(account_id)
    return await gateway.ask(calls.money.BALANCE, calls.base.AccountRef(account=account_id), BalanceView)


@get("/v1/operator/evidence", guards=[viewer], responses=keyed(), tags=["operator"])
async def evidence(gateway: Parts, after: AfterId = "", limit: Limit = 200) -> list[EvidenceView]:
    """Refused work, the latest first: what a node said, and what the others said of the same item.

    `after` is the lease of the last one seen. The last page is empty.
    """
    return await gateway.ask(calls.checks.EVIDENCE, calls.base.Page(after=after, limit=limit), list[EvidenceView])


@get("/v1/operator/reruns", guards=[viewer], responses=keyed(), tags=["operator"])
async def reruns(gateway: Parts, limit: Limit = 200) -> list[RerunView]:
    """What running items again has shown where nobody compares, the latest first: hints, which prove nothing."""
    return await gateway.ask(calls.checks.RERUNS, calls.base.Page(limit=limit), list[RerunView])


@post("/v1/operator/actions", guards=[operator], responses=keyed(404, 409, 413), tags=["operator"])
async def act(gateway: Parts, by: By, data: JSONBody[calls.actions.Action]) -> ActionView:
    """Ban a node or an account, vouch for an account's owner, or take that back; or erase what is known of an account.

    Who did it, and why, is kept. What was signed stays, as does the account's address: epochs are computed from them.
    """
    asked = calls.actions.Act(account=by.account, key_id=by.key_id, action=data)
    done = await gateway.ask(calls.actions.ACT, asked, ActionView)
    if data.what == "erase":
        await gateway.ask(calls.actions.ERASE, calls.base.AccountRef(account=done.subject), calls.actions.Erased)
    return done


@get("/v1/operator/actions", guards=[viewer], responses=keyed(), tags=["operator"])
async def actions(gateway: Parts, after: AfterId = "", limit: Limit = 200) -> list[ActionView]:
    """All that operators did, the latest first, with who did it and when. Nothing is ever removed."""
    return await gateway.ask(calls.actions.ACTIONS, calls.base.Page(after=after, limit=limit), list[ActionView])


@get("/v1/operator/nodes", guards=[viewer], responses=keyed(), tags=["operator"])
async def nodes(gateway: Parts, after: AfterNode = "", limit: Limit = 200) -> list[EnrolledView]:
    """Enrolled nodes by id, also those that never offered anything."""
    return await gateway.ask(calls.nodes.NODES, calls.base.Page(after=after, limit=limit), list[EnrolledView])


@get("/v1/operator/bans", guards=[viewer], responses=keyed(), tags=["operator"])
async def bans(gateway: Parts, after: AfterSubject = "", limit: Limit = 200) -> list[BanView]:
    """Nodes and accounts that are banned, with the reason, accounts without machines too; in their order."""
    return await gateway.ask(calls.actions.BANS, calls.base.Page(after=after, limit=limit), list[BanView])


ROUTES = [
    create_token,
    create_key,
    revoke_key,
    keys,
    tokens,
    revoke_token,
    grant,
    ledger_check,
    begin_audit,
    audits,
    health,
    running,
    nodes_over_time,
    governance,
    blobs,
    reserve,
    balance,
    evidence,
    reruns,
    act,
    actions,
    nodes,
    bans,
]
