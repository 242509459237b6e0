/** How a line of an epoch comes to what is owed: usage and incentive, each by itself, step by step. */
import type { Kept, Line } from "../proof/lines";

export type What = "bought" | "earned" | "checks" | "fee" | "reserve" | "made_good" | "held" | "vesting" | "released" | "vested" | "owed";

/** A step from one sum to the next; the first and the last begin at nothing. */
export interface Step {
  what: What;
  amount: bigint;
  from: bigint;
  to: bigint;
}

const TEST_CREDITS = 1;
const PAID_CREDITS = 2;

/** Of what buyers paid to what is owed. Where a line's own sums do not lead to its usage, it begins with that. */
export function usageSteps(line: Line, test: boolean): Step[] {
  const mine = line.money.filter(({ credit }) => credit === (test ? TEST_CREDITS : PAID_CREDITS));
  const sum = (bought: boolean, part: "income" | "fee" | "reserve" | "madeGood"): bigint =>
    mine.filter((one) => one.bought === bought).reduce((total, one) => total + one[part], 0n);
  const madeGood = sum(true, "madeGood") + sum(false, "madeGood");
  const [fee, reserve] = [sum(true, "fee"), sum(true, "reserve")];
  const income = sum(true, "income");
  const agrees = income + sum(false, "income") + madeGood === line.usage;
  const begin: [What, bigint][] = agrees
    ? [["bought", income + fee + reserve], ["fee", -fee], ["reserve", -reserve], ["checks", sum(false, "income")], ["made_good", madeGood]]
    : [["earned", line.usage]];
  return steps([...begin, ...later(line.kept, "usage")]);
}

export const incentiveSteps = (line: Line): Step[] => steps([["earned", line.incentive], ...later(line.kept, "incentive")]);

/** What a line's part of the pay adds to what its account is owed. */
export const owed = (line: Line, part: "usage" | "incentive"): bigint => line[part] + later(line.kept, part).reduce((sum, [, amount]) => sum + amount, 0n);

/** What of a line's part is not owed yet. */
export const held = (line: Line, part: "usage" | "incentive"): bigint =>
  line.kept.filter((one) => one.part === part).reduce((sum, one) => sum + one.held + one.vesting, 0n);

function later(kept: readonly Kept[], part: string): [What, bigint][] {
  return kept
    .filter((one) => one.part === part)
    .flatMap(({ held: kept, vesting, released, vested }) => [["held", -kept], ["vesting", -vesting], ["released", released], ["vested", vested]] as [What, bigint][]);
}

function steps(parts: readonly [What, bigint][]): Step[] {
  const found: Step[] = [];
  let at = 0n;
  for (const [what, amount] of parts) {
    if (!amount) continue;
    found.push({ what, amount, from: at, to: at + amount });
    at += amount;
  }
  return found.length ? [...found, { what: "owed", amount: at, from: 0n, to: at }] : [];
}
