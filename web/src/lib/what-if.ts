/** Closed epochs under other rules, as the network computes them one after the other. */
import { Failed, told, type Group, type WhatIfEpoch, type WhatIfResult } from "./api";
import type { Model } from "./rule-fields";

export interface Asked {
  epochs: number;
  model: Model;
  changes: string[];
}

/** Computes; `each` hears of every epoch. Raises Failed, and is ended by `signal`. */
export async function whatIf(asked: Asked, signal: AbortSignal, each: (epoch: WhatIfEpoch) => void): Promise<WhatIfResult> {
  try {
    for await (const { name, data } of told("/v1/operator/what-if", signal, asked)) {
      if (name === "epoch") each(data as WhatIfEpoch);
      if (name === "result") return data as WhatIfResult;
      if (name === "error") {
        const error = data as { code: string; message: string; hint?: string };
        throw new Failed(error.code, error.message, error.hint, 200); // of a stream that had begun well
      }
    }
  } catch (error) {
    if (error instanceof Failed) throw error;
  }
  // It broke off, and whoever reads may ask again.
  throw new Failed("offline", "");
}

/** What an epoch made owed to everybody: usage in micro-US-dollars, incentive in the token's units. */
export function owed(groups: readonly Group[], of: "was" | "then"): { usage: number; incentive: bigint } {
  return groups.reduce(
    (sum, group) => ({
      usage: sum.usage + group[of].usage_owed_microusd,
      incentive: sum.incentive + BigInt(group[of].incentive_owed),
    }),
    { usage: 0, incentive: 0n },
  );
}

/** The verticals of all epochs together. */
export function altogether(epochs: readonly WhatIfEpoch[]): Group[] {
  const found = new Map<string, Group>();
  for (const group of epochs.flatMap(({ verticals }) => verticals)) {
    const before = found.get(group.name);
    found.set(group.name, before ? { name: group.name, was: added(before.was, group.was), then: added(before.then, group.then) } : group);
  }
  return [...found.values()];
}

function added(one: Group["was"], other: Group["was"]): Group["was"] {
  return {
    usage_microusd: one.usage_microusd + other.usage_microusd,
    usage_owed_microusd: one.usage_owed_microusd + other.usage_owed_microusd,
    incentive: String(BigInt(one.incentive) + BigInt(other.incentive)),
    incentive_owed: String(BigInt(one.incentive_owed) + BigInt(other.incentive_owed)),
  };
}
