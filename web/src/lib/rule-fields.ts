/** What of the rules of rewards an operator thinks of changing, in his units, and as the NAME=VALUE that the network takes. */
import type { Policy } from "./api";
import { parameters, shown } from "./rules";

export type Kind = "tokens" | "usd" | "percent" | "percents" | "count" | "parts";

export interface RuleField {
  name: string;
  kind: Kind;
  /** What it is now, as people read it; empty where another model's own holds. */
  now: string;
}

export type Model = "" | "none" | "work_only" | "burn_and_mint";
export const MODELS: readonly Model[] = ["none", "work_only", "burn_and_mint"];

const SCHEDULES: Record<string, readonly (readonly [string, Kind])[]> = {
  halving_by_issuance: [["base", "tokens"], ["blocks", "count"], ["cap", "tokens"]],
  halving_by_date: [["base", "tokens"], ["period", "count"]],
  yearly_decay: [["first_year", "tokens"], ["keep_ppm", "percent"], ["epochs_a_year", "count"]],
};
/** Which schedule each model begins with. */
const OF_MODEL: Partial<Record<Model, string>> = { work_only: "halving_by_issuance", burn_and_mint: "halving_by_date" };
const HELD = [["withheld_ppm", "percents"], ["step", "count"], ["release", "count"], ["parts", "parts"]] as const;

/** The fields for rules that change to `model` first, in groups. */
export function ruleFields(policies: readonly Policy[], model: Model): Record<"emission" | "caps" | "weights" | "held", RuleField[]> {
  const [rewards, ...verticals] = policies;
  const own = new Map(rewards ? parameters(rewards) : []);
  const is = model || own.get("model") || "none";
  const type = (model ? OF_MODEL[model] : own.get("schedule.type")) ?? "";
  const field = (name: string, kind: Kind): RuleField => ({ name, kind, now: model ? "" : shown(name, own.get(name) ?? "") });
  const emission = (SCHEDULES[type] ?? []).map(([name, kind]) => field(`schedule.${name}`, kind));
  const mints = is !== "none";
  return {
    emission: [
      ...emission,
      ...(is === "burn_and_mint" ? [field("net_cap", "tokens")] : []),
      ...(mints ? [field("price", "usd"), field("vesting", "count")] : []),
    ],
    caps: mints ? [field("cap_ppm", "percent"), field("attested_ppm", "percent")] : [],
    weights: mints ? verticals.map(({ name }) => ({ ...field(`weights.${name}`, "count"), now: own.get(`weights.${name}`) ?? "1" })) : [],
    held: HELD.map(([name, kind]) => field(`held.${name}`, kind)),
  };
}

/** What somebody wrote, as NAME=VALUE; undefined where it is no value. */
export function setting({ name, kind }: RuleField, text: string): string | undefined {
  const value = read(kind, text.trim());
  return value === undefined ? undefined : `${name}=${value}`;
}

function read(kind: Kind, text: string): string | undefined {
  switch (kind) {
    case "tokens":
      return scaled(text, 18);
    case "usd":
      return scaled(text, 6);
    case "percent":
      return scaled(text, 4);
    case "percents": {
      const all = text.split(/[,、]/).map((one) => scaled(one.trim(), 4));
      // A comma behind the last one says that it is a list.
      return all.includes(undefined) ? undefined : `${all.join(",")},`;
    }
    case "count":
      return scaled(text, 0);
    case "parts":
      return text;
  }
}

/** A decimal number times 10^digits, exactly; undefined where it is none, or has more digits than that. */
export function scaled(text: string, digits: number): string | undefined {
  const [, whole, rest = ""] = /^([0-9]{1,60})(?:[.]([0-9]*))?$/.exec(text) ?? [];
  if (whole === undefined || rest.length > digits) return undefined;
  return String(BigInt(whole + rest.padEnd(digits, "0")));
}
