/** A provider's machines that lend disks: how the network counts, audits and pays each, and what is wrong before it costs him. */
import type { Words } from "../words/en";
import { send } from "./api";
import { bytes, dollars, NONE, number, percent, unit, when } from "./format";
import { pages } from "./pages";

const LENDERS_MAX = 2000;
const PPM = 1_000_000;

interface Evidence {
  piece: string;
  chunk: number;
  asked_ms: number;
  took_ms: number;
  found: string;
}

export interface Lender {
  /** The node's key in base64. */
  node: string;
  limit_bytes: number;
  statement: {
    standing: string;
    exit: string;
    audits: number;
    score_ppm: number;
    unknown_ppm: number;
    online_ppm: number;
    stored_bytes: number;
    egress_bytes: number;
    repair_bytes: number;
    earned_microusd: number;
    expected_microusd: number;
  };
  alerts: { kind: string; code: string; text: string; at_ms: number; evidence: Evidence[] }[];
  lost_below_ppm: number;
  errors_below_ppm: number;
  there_below_ppm: number;
}

const hexOf = (base64: string): string => Array.from(atob(base64), (sign) => sign.charCodeAt(0).toString(16).padStart(2, "0")).join("");

/** By node, in hex. Raises Failed. */
export async function lenders(): Promise<Map<string, Lender>> {
  const asked = (last?: Lender) => send<Lender[]>("POST", "/v1/account/verticals/storage/lenders", { account: "", after: last?.node ?? "" });
  const { all } = await pages(asked, LENDERS_MAX);
  return new Map(all.map((one) => [hexOf(one.node), one]));
}

const score = (ppm: number): string => number(ppm / PPM, 4);

/** What is on its way to cost him pay or what is held, with what showed it. */
export function lentAlerts(lender: Lender | undefined, w: Words): string[] {
  return (lender?.alerts ?? []).map((alert) => {
    const says = w.lentAlert[alert.code]?.(facts(lender as Lender)) ?? alert.text;
    const shown = alert.evidence.map((one) => w.lentEvidence(when(one.asked_ms), one.piece ? hexOf(one.piece).slice(0, 12) : "", one.found, unit(one.took_ms, "millisecond")));
    return [`${w.lentKind[alert.kind] ?? alert.kind}, ${when(alert.at_ms)}: ${says} (${alert.code})`, ...shown].join(" ");
  });
}

export interface Lent {
  score: string;
  lostBelow: string;
  errors: string;
  errorsBelow: string;
  there: string;
  thereBelow: string;
}

const facts = ({ statement, lost_below_ppm, errors_below_ppm, there_below_ppm }: Lender): Lent => ({
  score: score(statement.score_ppm),
  lostBelow: score(lost_below_ppm),
  errors: score(statement.unknown_ppm),
  errorsBelow: score(errors_below_ppm),
  there: percent(statement.online_ppm, PPM),
  thereBelow: percent(there_below_ppm, PPM),
});

/** Each with its name, for a list of facts. */
export function lentFacts(lender: Lender, w: Words): [string, string][] {
  const { statement } = lender;
  const shown = facts(lender);
  return [
    [w.lentStored, `${bytes(statement.stored_bytes)} / ${bytes(lender.limit_bytes)}`],
    [w.lentStanding, w.lentKind[statement.standing] ?? (statement.standing || w.lentFine)],
    [w.lentAudits, statement.audits ? w.lentScore(number(statement.audits), shown.score, shown.lostBelow) : NONE],
    [w.lentErrors, w.lentNothingNew(shown.errors, shown.errorsBelow)],
    [w.lentThere, w.lentNothingNew(shown.there, shown.thereBelow)],
    [w.lentRead, w.lentReadBytes(bytes(statement.egress_bytes), bytes(statement.repair_bytes))],
    [w.lentMonth, w.lentPay(dollars(statement.earned_microusd), dollars(statement.expected_microusd))],
  ];
}
