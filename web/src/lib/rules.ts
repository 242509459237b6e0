/** Rules that epochs were closed under, as a reader sees them: since when, what changed, and in which units. */
import type { EpochView, Policy } from "./api";
import { bytes, dollars, lasting, percentOf, tokens } from "./format";

/** Parameters that are amounts of the token: 32 bytes in hex. */
const AMOUNTS = new Set(["cap", "base", "first_year", "net_cap"]);
/** How people speak of what the ends of names say. */
const UNITS: readonly (readonly [end: string, spoken: (value: number) => string])[] = [
  ["_ms", lasting],
  ["_s", (value) => lasting(1000 * value)],
  ["_ppm", percentOf],
  ["_microusd", dollars],
  ["_bytes", bytes],
];
/** Parameters named by verticals, and prices, have no such end. */
const SHARES = "unsold.";
const PRICE = "price";

export type Parameter = readonly [name: string, value: string];

export interface Standing extends Policy {
  since: number;
  /** Whether it was this version, with these parameters, in no epoch before that. */
  exact: boolean;
  before: number | undefined;
}

export interface Change {
  since: number;
  /** Whether the epoch before it was read, too. */
  exact: boolean;
  policy: string;
  name: string;
  /** Empty where there was no such parameter. */
  was: string;
  now: string;
}

/** Each rule of the latest epoch that can be read, since when it is so, and which version it was before, as far as is seen. */
export function standing(found: readonly EpochView[]): Standing[] {
  const read = found.filter(({ damaged }) => !damaged);
  return (read[0]?.policies ?? []).map((policy) => {
    const changed = read.findIndex((epoch) => !same(named(epoch, policy.name), policy));
    const first = read[(changed === -1 ? read.length : changed) - 1];
    const other = changed === -1 ? undefined : read[changed];
    const since = first?.epoch ?? 0;
    const before = named(other, policy.name);
    const exact = first?.previous === "" || other?.epoch === since - 1;
    return { ...policy, since, exact, before: before?.digest === policy.digest ? undefined : before?.version };
  });
}

/** What changed from epoch to epoch, the latest first, with what it was beside it. */
export function changes(found: readonly EpochView[]): Change[] {
  const read = found.filter(({ damaged }) => !damaged);
  return read.slice(0, -1).flatMap((epoch, at) => differences(epoch, read[at + 1]));
}

function differences(epoch: EpochView, older: EpochView | undefined): Change[] {
  const names = new Set([...(epoch.policies ?? []), ...(older?.policies ?? [])].map(({ name }) => name));
  return [...names].flatMap((policy) => {
    const [was, now] = [facts(named(older, policy)), facts(named(epoch, policy))];
    const all = [...new Set([...was.keys(), ...now.keys()])];
    return all
      .filter((name) => was.get(name) !== now.get(name))
      .map((name) => ({ since: epoch.epoch, exact: older?.epoch === epoch.epoch - 1, policy, name, was: was.get(name) ?? "", now: now.get(name) ?? "" }));
  });
}

/** The version of a rule and all of its parameters, those in tables by NAME.PART. */
function facts(policy: Policy | undefined): Map<string, string> {
  if (!policy) return new Map();
  return new Map([["version", `${policy.version} (${policy.digest.slice(0, 8)})`], ...parameters(policy)]);
}

/** The parameters of a rule, each as text, by name. */
export function parameters(policy: Policy): Parameter[] {
  return flat("", policy.parameters ?? {}).sort(([one], [other]) => (one < other ? -1 : 1));
}

function flat(prefix: string, table: Record<string, unknown>): Parameter[] {
  return Object.entries(table).flatMap(([name, value]): Parameter[] =>
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? flat(`${prefix}${name}.`, value as Record<string, unknown>)
      : [[`${prefix}${name}`, Array.isArray(value) ? value.join(", ") : String(value)]],
  );
}

/** A parameter in the units that people think in, one of a list as each of them. */
export function shown(name: string, value: string): string {
  const last = name.split(".").pop() ?? name;
  if (AMOUNTS.has(last) && /^[0-9a-f]{64}$/.test(value)) return tokens(BigInt(`0x${value}`));
  const spoken = name.startsWith(SHARES) ? percentOf : name === PRICE ? dollars : UNITS.find(([end]) => last.endsWith(end))?.[1];
  return value.split(", ").map((one) => (isAddress(one) ? `0x${one}` : spoken && isNumber(one) ? spoken(Number(one)) : one)).join(", ");
}

/** The same with the number that is meant beside it, where that is another. */
export function told(name: string, value: string): string {
  const text = shown(name, value);
  return text !== value && value.split(", ").every(isNumber) ? `${text} (${value})` : text;
}

const isAddress = (value: string): boolean => /^[0-9a-f]{40}$/.test(value);
const isNumber = (value: string): boolean => /^[0-9]{1,18}$/.test(value);

const named = (epoch: EpochView | undefined, name: string): Policy | undefined =>
  epoch?.policies?.find((one) => one.name === name);
const same = (one: Policy | undefined, other: Policy): boolean =>
  one?.digest === other.digest && JSON.stringify(one.parameters ?? {}) === JSON.stringify(other.parameters ?? {});
