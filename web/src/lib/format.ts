/** Numbers, times and names as people read them, in their language. */
import { look } from "./look.svelte";

export const NONE = "—";

const locale = () => (look.tongue === "ja" ? "ja-JP" : "en-GB");

export function number(value: number | bigint, digits = 0): string {
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value);
}

/** A number for a tile: at most four digits, and the exact one on hover. */
export function short(value: number): string {
  const small = Math.abs(value) < 10_000;
  return new Intl.NumberFormat(locale(), {
    notation: small ? "standard" : "compact",
    maximumFractionDigits: small ? 2 : 1,
  }).format(value);
}

export function percent(part: number, whole: number, digits = 1): string {
  if (!whole) return NONE;
  return new Intl.NumberFormat(locale(), { style: "percent", maximumFractionDigits: digits }).format(part / whole);
}

export function unit(value: number, of: "celsius" | "millisecond"): string {
  return new Intl.NumberFormat(locale(), { style: "unit", unit: of, maximumFractionDigits: 0 }).format(value);
}

/** Micro-US-dollars, with two digits behind the point or as many as a small sum needs. */
export function dollars(micro: bigint | number): string {
  const value = Number(micro) / 1e6;
  const digits = value !== 0 && Math.abs(value) < 1 ? 6 : 2;
  const text = new Intl.NumberFormat(locale(), { minimumFractionDigits: 2, maximumFractionDigits: digits }).format(value);
  return `${text} USD`;
}

/** Millionths, as a share of a hundred. */
export const percentOf = (ppm: number): string => percent(ppm, 1e6, 4);

/** 10^18 units are one token. */
export function tokens(units: bigint): string {
  const whole = units / 10n ** 18n;
  const rest = Number(units % 10n ** 18n) / 1e18;
  const digits = whole >= 1000n ? 0 : whole > 0n ? 2 : 6;
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(Number(whole) + rest);
}

/** The same two to the last digit: what somebody is about to sign for. */
export const exactDollars = (micro: bigint): string => `${exact(micro, 6, 2)} USD`;
export const exactTokens = (units: bigint): string => exact(units, 18, 0);

function exact(units: bigint, digits: number, least: number): string {
  const part = String(units % 10n ** BigInt(digits)).padStart(digits, "0");
  const text = `${units / 10n ** BigInt(digits)}.${part}` as Intl.StringNumericLiteral;
  return new Intl.NumberFormat(locale(), { minimumFractionDigits: least, maximumFractionDigits: digits }).format(text);
}

export function bytes(size: number): string {
  const step = size < 1000 ? 0 : size < 1e6 ? 1 : size < 1e9 ? 2 : 3;
  const unit = (["byte", "kilobyte", "megabyte", "gigabyte"] as const)[step] ?? "byte";
  return new Intl.NumberFormat(locale(), {
    style: "unit",
    unit,
    unitDisplay: step ? "short" : "long",
    maximumFractionDigits: step ? 1 : 0,
  }).format(size / 1000 ** step);
}

/** What is less than a GiB is told in MiB: as a part of one, little would look like nothing. */
export function gib(mib: number): string {
  if (mib > 0 && mib < 1024) return `${number(mib)} MiB`;
  return `${number(mib / 1024, mib < 10_240 ? 1 : 0)} GiB`;
}

export function cores(milli: number): string {
  return number(milli / 1000, milli < 10_000 ? 2 : 0);
}

/** A name with all signs shown that would hide, or turn round, what is written beside them. */
export function visible(name: string): string {
  return name.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, (sign) => `\\u${(sign.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`);
}

/** What one of many is called: its label, or the beginning of its id. */
export const called = (label: string, id: string): string => visible(label) || brief(id);

/** Several things one after the other, parted as they are in his language. */
export function listed(parts: string[]): string {
  return new Intl.ListFormat(locale(), { type: "conjunction", style: "narrow" }).format(parts);
}

/** A moment in the reader's own time zone. */
export function when(ms: number): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(ms);
}

/** The same without the year, for tables. */
export function lately(ms: number): string {
  return new Intl.DateTimeFormat(locale(), { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" }).format(ms);
}

export function day(ms: number): string {
  return new Intl.DateTimeFormat(locale(), { month: "short", day: "numeric" }).format(ms);
}

/** A day of the network's: they begin everywhere at midnight of UTC. */
export function utcDay(ms: number): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeZone: "UTC" }).format(ms);
}

export function clock(ms: number): string {
  return new Intl.DateTimeFormat(locale(), { timeStyle: "medium" }).format(ms);
}

const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
];

export function ago(ms: number, now: number): string {
  const past = Math.max(0, now - ms);
  const [unit, size] = STEPS.find(([, step]) => past >= step) ?? ["second", 1000];
  return new Intl.RelativeTimeFormat(locale(), { numeric: "auto", style: "short" }).format(-Math.floor(past / size), unit);
}

export function lasting(ms: number): string {
  const [unit, size] = STEPS.find(([, step]) => ms >= step) ?? ["second", 1000];
  return new Intl.NumberFormat(locale(), { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 1 }).format(
    ms / size,
  );
}

export function country(code: string): string {
  try {
    return new Intl.DisplayNames(locale(), { type: "region", fallback: "code" }).of(code) ?? code;
  } catch {
    return code;
  }
}

/** The beginning and the end of a long hexadecimal name. */
export function brief(hex: string, left = 8, right = 4): string {
  const bare = hex.replace(/^0x/, "");
  if (bare.length <= left + right + 1) return hex;
  return `${hex.startsWith("0x") ? "0x" : ""}${bare.slice(0, left)}…${bare.slice(-right)}`;
}
