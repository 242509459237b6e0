/** Sums of an epoch, as its signed statement has them. */
import { amount, hex } from "./bytes";
import type { Statement } from "./statement";

export interface Sums {
  /** What buyers paid, in micro-US-dollars of credits that are worth something. */
  usage: bigint;
  /** The same in TEST credits, which nothing backs. */
  test: bigint;
  /** What was minted, in units of the token. */
  incentive: bigint;
  /** Whether the network mints a token at all. */
  mints: boolean;
}

const PARTS = ["income", "fee", "reserve"];
const GRANTED = 1;
const BACKED = [2, 3];
const TEST_ASSET = `${"00".repeat(19)}01`;

/** Whether what is owed in an epoch is TEST credits. */
export const isTest = (said: Statement): boolean => hex(said.settlement) === TEST_ASSET;

export function sums(said: Statement): Sums {
  const total = (name: string): bigint => amount(said.totals[name] ?? new Uint8Array(0));
  const bought = (credits: number[]): bigint =>
    credits.flatMap((credit) => PARTS.map((part) => total(`bought.${credit}.${part}`))).reduce((a, b) => a + b, 0n);
  return {
    usage: bought(BACKED),
    test: bought([GRANTED]),
    incentive: total("incentive"),
    mints: said.policies.some((policy) => (policy.parameters["model"] ?? "none") !== "none"),
  };
}
