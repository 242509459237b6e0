/** The explorer's tables, whole, as files have them: exact numbers with their units in the names of the columns. */
import { monthly, sector, type Claim, type Row as Published } from "../data/sector";
import type { Line } from "../proof/lines";
import { sums } from "../proof/totals";
import { ask, type Action, type Cell, type EpochView, type Evidence, type Governed, type Happening, type Market, type NodeView, type Network, type Rival, type Vertical, type Votes } from "./api";
import type { Kind } from "./classes";
import { unitOf } from "./contracts";
import type { Table } from "./csv";
import type { Row } from "./earned";
import { done } from "./economics";
import { latest, type Closed } from "./history";
import { cheapest } from "./rivals";
import { parameters, type Standing } from "./rules";
import { held, owed } from "./waterfall";

export const ROWS_MAX = 100_000;
const PAGE = 1000;
const EPOCHS_PAGE = 100;

/** Says how many rows are there, and whether to stop. */
export type Progress = (rows: number) => boolean;

export async function nodes(progress: Progress): Promise<Table> {
  const found: NodeView[] = [];
  for (;;) {
    const page = await ask<NodeView[]>(`/v1/nodes?limit=${PAGE}&after=${found.at(-1)?.node ?? ""}`);
    found.push(...page);
    if (!page.length || found.length >= ROWS_MAX || progress(found.length)) break;
  }
  return nodeTable(found.slice(0, ROWS_MAX));
}

export const nodeTable = (found: readonly NodeView[]): Table => ({
  head: [
    ...["node", "label", "account", "state", "trust", "country", "cell", "cpu_milli", "cpu_free_milli", "memory_mib", "memory_free_mib", "disk_mib", "gpus"],
    ...["price_microusd_per_core_hour", "price_microusd_per_gib_hour", "price_microusd_per_gpu_hour"],
    ...["leases", "confirmed", "wrong", "why", "missed", "last_seen_at_ms", "attributes"],
  ],
  rows: found.map((one) => [
    ...[one.node, one.label, one.account, one.state, one.trust, one.country, one.cell ?? ""],
    ...[one.total?.cpu_milli ?? null, one.free?.cpu_milli ?? null, one.total?.memory_mib ?? null, one.free?.memory_mib ?? null],
    ...[one.total?.disk_mib ?? null, one.total?.gpus ?? null, one.terms?.price_microusd_per_core_hour ?? null],
    ...[one.terms?.price_microusd_per_gib_hour ?? null, one.terms?.price_microusd_per_gpu_hour ?? null],
    ...[one.leases, one.confirmed, one.wrong, one.why ?? "", one.missed ?? 0, one.last_seen_at, JSON.stringify(one.attributes)],
  ]),
});

/** What all machines come to at a moment, and what buyers store, in the units of their names. */
export const totals = ({ at, nodes: found, owners, offered, sold, jobs_open, leases_open }: Market, verticals: readonly Vertical[]): Table => {
  const named = (kind: string, of: object): [string, number][] => Object.entries(of).map(([name, value]) => [`${kind}_${name}`, Number(value)]);
  const told = verticals.flatMap(({ numbers }) => numbers.map(({ name, labels, value }): [string, number] => [[name, ...Object.values(labels)].join("_"), value]));
  const rows: [string, number][] = [...named("nodes", found), ["owners", owners], ...named("offered", offered), ...named("sold", sold), ["jobs_open", jobs_open], ["leases_open", leases_open], ...told];
  return { head: ["name", "value", "at_ms"], rows: rows.map(([name, value]) => [name, value, at]) };
};

/** The log of what operators did, whole. */
export async function actions(progress: Progress): Promise<Table> {
  const found: Action[] = [];
  for (;;) {
    const page = await ask<Action[]>(`/v1/operator/actions?limit=${PAGE}&after=${found.at(-1)?.id ?? ""}`);
    found.push(...page);
    if (!page.length || found.length >= ROWS_MAX || progress(found.length)) break;
  }
  return {
    head: ["id", "at_ms", "account", "key_id", "what", "subject", "reason", "about"],
    rows: found.slice(0, ROWS_MAX).map((one) => [one.id, one.at, one.account, one.key_id, one.what, one.subject, one.reason, one.about ?? ""]),
  };
}

/** Refused results; each vote of the same item is a row. */
export const evidence = (found: readonly Evidence[]): Table => ({
  head: ["lease", "node", "at_ms", "code", "vote_lease", "vote_node", "vote_account", "vote_ok", "vote_reason", "vote_result"],
  rows: found.flatMap((one) =>
    one.votes.map((vote) => [one.lease, one.node, one.at, one.code, vote.lease, vote.node, vote.account, vote.ok, vote.reason, vote.result ?? ""]),
  ),
});

/** Only what this browser has checked the signature of has sums. */
export async function epochs(network: Network, progress: Progress): Promise<Table> {
  const found: Closed[] = [];
  for (;;) {
    const page = await latest(network, EPOCHS_PAGE, found.at(-1)?.view.epoch);
    found.push(...page);
    if (page.length < EPOCHS_PAGE || found.length >= ROWS_MAX || progress(found.length)) break;
  }
  return {
    head: ["epoch", "from_ms", "until_ms", "records", "statement", "root", "signature_holds", "usage_microusd", "usage_test_microusd", "incentive_units"],
    rows: found.slice(0, ROWS_MAX).map(({ view, sealed }) => {
      const sum = sealed && sums(sealed.said);
      const seen = [view.epoch, view.from_ms, view.until_ms, view.records, view.statement, view.root, Boolean(sealed)];
      return [...seen, sum?.usage ?? null, sum?.test ?? null, sum?.incentive ?? null];
    }),
  };
}

export const lines = (found: readonly Line[]): Table => ({
  head: [
    ...["account", "node", "vertical", "units", "score_ppm", "usage_microusd", "incentive_units"],
    ...["usage_held_microusd", "incentive_held_units", "usage_owed_microusd", "incentive_owed_units"],
  ],
  rows: found.map((one) => [
    ...[one.account, one.node, one.vertical, one.units, one.score, one.usage, one.incentive],
    ...[held(one, "usage"), held(one, "incentive"), owed(one, "usage"), owed(one, "incentive")],
  ]),
});

export const earned = (found: readonly Row[]): Table => {
  const { head, rows } = lines(found.map(({ line }) => line));
  return { head: ["epoch", "until_ms", ...head, "is_test"], rows: rows.map((row, at) => [found[at]?.view.epoch ?? null, found[at]?.view.until_ms ?? null, ...row, found[at]?.test ?? null]) };
};

export const kinds = (found: readonly Kind[]): Table => ({
  head: ["machine", "nodes", ...["usage_microusd", "incentive_units"].flatMap((name) => ["p25", "p50", "p75"].map((rank) => `${name}_a_day_${rank}`))],
  rows: found.map(({ name, machines, usage, incentive }) => [name, machines, usage.p25, usage.p50, usage.p75, incentive.p25, incentive.p50, incentive.p75]),
});

export const cells = (found: readonly Cell[]): Table => ({
  head: ["cell", "nodes", "open", "busy", "cpu_milli", "sold_milli"],
  rows: found.map((one) => [one.cell, one.nodes, one.open, one.busy, one.cpu_milli, one.sold_milli]),
});

export const happened = (found: readonly Happening[]): Table => ({
  head: ["at_ms", "kind", "node", "vertical", "epoch", "ok"],
  rows: found.map((one) => [one.at, one.kind, one.node ?? "", one.vertical ?? "", one.epoch ?? null, one.ok ?? true]),
});

export const epochLines = (found: readonly EpochView[]): Table => ({
  head: ["epoch", "from_ms", "until_ms", "usage_microusd", "usage_test_microusd", "fees_microusd", "minted_units", "burned_units", "supply_units", "price_microusd"],
  rows: found.flatMap(({ epoch, from_ms, until_ms, network }) =>
    network
      ? [[epoch, from_ms, until_ms, network.bought_microusd ?? 0, network.test_microusd ?? 0, network.revenue_microusd, network.minted, network.burned, network.supply, network.price_microusd]]
      : [],
  ),
});

/** Machines by the country that their owners say, at a moment. */
export const countries = ({ at, countries: found }: Market): Table => ({
  head: ["country", "nodes", "at_ms"],
  rows: Object.entries(found).map(([code, count]) => [code, count, at]),
});

/** Jobs that ended, by outcome: within whole hours, of which the last still runs. */
export const jobsEnded = ({ at, jobs_ended: found = {} }: Market): Table => ({
  head: ["outcome", "jobs_in_24_hours", "jobs_in_720_hours", "jobs_ever", "at_ms"],
  rows: Object.entries(found).map(([outcome, { day, month, ever }]) => [outcome, day, month, ever, at]),
});

export const nodesByDay = ({ nodes_by_day: found = [] }: Market): Table => ({
  head: ["day_begins_ms", "nodes_at_once_max"],
  rows: found.map(({ at, nodes }) => [at, nodes]),
});

export const files = ({ epoch, files: found }: EpochView): Table => ({
  head: ["epoch", "name", "size_bytes", "holds", "sha256"],
  rows: found.map((one) => [epoch, one.name, one.size, one.count, one.sha256]),
});

/** A line a vertical, over 30 days; what it holds of the capacity is of this moment. */
export const networks = (found: readonly Vertical[], market: Market | undefined): Table => ({
  head: [
    ...["vertical", "nodes_in_latest_epoch", "sold_cpu_milli", "offered_cpu_milli", "charged_core_s", "useful_core_s", "usage_microusd", "usage_test_microusd", "incentive_units"],
    ...["fees_microusd", "minted_worth_microusd", "cheapest_elsewhere", "here_microusd", "there_microusd"],
  ],
  rows: found.map((one) => {
    const [sum, rival] = [done(one), cheapest(one)];
    return [
      ...[one.name, sum.latest?.nodes ?? null, market ? (market.sold_to?.[one.name]?.sold.cpu_milli ?? 0) : null, market?.offered.cpu_milli ?? null],
      ...[sum.charged, sum.useful, sum.usage, sum.test, sum.incentive, sum.fees, sum.mintedWorth],
      ...[rival?.name ?? null, rival?.here_microusd ?? null, rival?.there_microusd ?? null],
    ];
  }),
});

export const verticalEpochs = ({ name, epochs: found }: Vertical): Table => ({
  head: ["vertical", "epoch", "from_ms", "until_ms", "nodes", "accounts", "units", "usage_microusd", "usage_test_microusd", "incentive_units", "leases", "leases_done", "charged_core_s", "useful_core_s", "useful_gib_s"],
  rows: found.map(({ epoch, from_ms, until_ms, sums: one }) => [
    ...[name, epoch, from_ms, until_ms, one?.nodes ?? null, one?.accounts ?? null, one?.units ?? null, one?.usage_microusd ?? null],
    ...[one?.test_microusd ?? null, one?.incentive ?? null, one?.leases ?? null, one?.leases_done ?? null],
    ...[one?.charged_core_s ?? null, one?.core_s ?? null, one?.gib_s ?? null],
  ]),
});

export const rivals = (found: readonly Rival[]): Table => ({
  head: ["name", "kind", "here_microusd", "there_microusd", "as_of", "source", "note"],
  rows: found.map((one) => [one.name, one.kind, one.here_microusd, one.there_microusd, one.as_of, one.source, one.note]),
});

/** The rules that epochs were closed under, a row for each parameter. */
export const policies = (found: readonly Standing[]): Table => ({
  head: ["policy", "version", "digest", "since_epoch", "since_is_exact", "parameter", "value"],
  rows: found.flatMap((one) => {
    const rule = [one.name, one.version, one.digest, one.since, one.exact];
    const told = parameters(one);
    return told.length ? told.map(([name, value]) => [...rule, name, value]) : [[...rule, "", ""]];
  }),
});

/** Who signed for an epoch. */
export const votes = (found: Votes): Table => ({
  head: ["epoch", "validator", "signed", "signed_another_root", "signed_two_roots", "quorum"],
  rows: found.validators.map((one) => [found.epoch, one, found.signed.includes(one), found.wrong.some(({ validator }) => validator === one), found.equivocated.includes(one), found.quorum]),
});

/** What contracts say, what is about to change, and who holds most. */
export const governed = (now: Governed): Table => ({
  head: ["kind", "of", "name", "value", "unit", "at_ms"],
  rows: [
    ...Object.entries(now.parameters).flatMap(([contract, values]) => Object.entries(values).map(([name, value]) => ["parameter", contract, name, value, unitOf(name), now.at])),
    ...now.pending.map((one) => ["pending", one.contract, one.call, one.data, "", one.ready_at]),
    ...now.holders.map((one) => ["holder", "token", one.account, one.amount, unitOf("totalSupply"), now.at]),
  ],
});

/** What disputes a figure has a row of its own behind it. */
export const field = (tongue: "en" | "ja"): Table => {
  const line = (row: Published, claim: Claim, disputes: string) => [
    ...[row.id, row.subject[tongue], claim.figure[tongue], claim.date, claim.source.name, claim.source.url, claim.source.page],
    ...[claim.per?.unit[tongue] ?? null, claim.per ? monthly(claim.per) : null, claim.per?.how[tongue] ?? null, disputes],
  ];
  return {
    head: ["id", "subject", "figure", "date", "source", "source_url", "stands_on_that_page", "unit", "usd_per_unit_and_month", "computed_as", "disputes"],
    rows: sector.flatMap((row) => [line(row, row, ""), ...row.disputed.map((claim) => line(row, claim, row.id))]),
  };
};
