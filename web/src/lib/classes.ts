/** What machines of a kind earn a day: of each kind, what a quarter, a half and three quarters of them stay below. */
import type { NodeView } from "./api";
import type { Earned } from "./earned";

const DAY_MS = 86_400_000;

/** A machine is of the first kind that it fits. Names are those of `words().machines`. */
const KINDS: readonly [string, (node: NodeView) => boolean][] = [
  ["gpu", ({ total }) => (total?.gpus ?? 0) > 0],
  ["huge", ({ total }) => (total?.cpu_milli ?? 0) >= 16_000],
  ["large", ({ total }) => (total?.cpu_milli ?? 0) >= 8000],
  ["middle", ({ total }) => (total?.cpu_milli ?? 0) >= 4000],
  ["small", () => true],
];

export interface Quartiles {
  p25: bigint;
  p50: bigint;
  p75: bigint;
}

export interface Kind {
  name: string;
  machines: number;
  /** Micro-US-dollars a day. */
  usage: Quartiles;
  /** Units of the token a day. */
  incentive: Quartiles;
}

/** Of these machines, those that earned nothing included; empty where no epoch was read. */
export function kinds(nodes: readonly NodeView[], { rows, readMs }: Earned): Kind[] {
  if (!readMs) return [];
  const sums = new Map<string, { usage: bigint; incentive: bigint }>();
  for (const { line } of rows) {
    const sum = sums.get(line.node) ?? { usage: 0n, incentive: 0n };
    sums.set(line.node, { usage: sum.usage + line.usage, incentive: sum.incentive + line.incentive });
  }
  const aDay = (amount = 0n): bigint => (amount * BigInt(DAY_MS)) / BigInt(readMs);
  const found = new Map<string, NodeView[]>();
  for (const node of nodes) {
    const name = KINDS.find(([, fits]) => fits(node))?.[0] ?? "";
    found.set(name, [...(found.get(name) ?? []), node]);
  }
  return KINDS.flatMap(([name]) => {
    const own = found.get(name) ?? [];
    if (!own.length) return [];
    const [usage, incentive] = [own.map(({ node }) => aDay(sums.get(node)?.usage)), own.map(({ node }) => aDay(sums.get(node)?.incentive))];
    return [{ name, machines: own.length, usage: quartiles(usage), incentive: quartiles(incentive) }];
  });
}

/** By nearest rank: each of the three is what one of the machines earned. */
export function quartiles(amounts: readonly bigint[]): Quartiles {
  const at = (share: number): bigint => rank(amounts, share) ?? 0n;
  return { p25: at(0.25), p50: at(0.5), p75: at(0.75) };
}

function rank(amounts: readonly bigint[], share: number): bigint | undefined {
  const sorted = [...amounts].sort((one, other) => (one < other ? -1 : one > other ? 1 : 0));
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}
