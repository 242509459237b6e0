/** What a network takes in, mints and burns, added up from its closed epochs' own lines. */
import type { Words } from "../words/en";
import type { EpochView, Vertical } from "./api";
import { lasting } from "./format";

export const DAY_MS = 86_400_000;
export const EPOCHS = 31;
const MONTH_MS = 30 * DAY_MS;
const SLACK = 1.02;
/** The model of rewards whose price is a parameter. */
const FIXED = "work_only";
const YEAR_MS = 365.25 * DAY_MS;
const TOKEN = 10n ** 18n;

/** Sums over some epochs; money in micro-US-dollars, tokens in their smallest unit. */
export interface Sums {
  epochs: number;
  ms: number;
  usage: bigint;
  test: bigint;
  /** Fees of epochs that a price held in, or that minted nothing: what others minted has no worth to set them against. */
  fees: bigint;
  minted: bigint;
  burned: bigint;
  /** What was minted, at the price of each epoch. */
  mintedWorth: bigint;
}

export interface Economics {
  day: Sums;
  month: Sums;
  supply: bigint;
  price: bigint;
  /** Whether the rules of rewards name that price: no market does. */
  fixed: boolean;
  /** When the latest epoch ended; undefined where none is closed. */
  until: number | undefined;
  /** Whether no epoch of the month is missing. */
  whole: boolean;
}

/** Epochs that ended in the last so many milliseconds before the latest one's end; they come with the latest first. */
export const within = <T extends { until_ms: number }>(epochs: readonly T[], ms: number): T[] => epochs.filter((one) => one.until_ms > (epochs[0]?.until_ms ?? 0) - ms);

/** Whether all epochs of the month are there: no more than `EPOCHS` are looked at, and they may be of an hour each. */
const isWhole = (looked: number, read: readonly { until_ms: number }[]): boolean => looked < EPOCHS || within(read, MONTH_MS).length < read.length;

/** Of what time sums are that stand for a day, or for a month: of that, or of as long as those epochs were. */
export const ofDay = ({ day: { ms } }: Economics, w: Words): string => (ms <= DAY_MS * SLACK ? w.ecoDay : w.ecoLately(lasting(ms)));
export const ofMonth = ({ whole, ms }: { whole: boolean; ms: number }, w: Words): string => (whole && ms <= MONTH_MS * SLACK ? w.ecoIn30 : w.ecoLately(lasting(ms)));

function sum(epochs: EpochView[]): Sums {
  const total: Sums = { epochs: 0, ms: 0, usage: 0n, test: 0n, fees: 0n, minted: 0n, burned: 0n, mintedWorth: 0n };
  for (const { from_ms, until_ms, network } of epochs) {
    if (!network) continue;
    total.epochs += 1;
    total.ms += until_ms - from_ms;
    total.usage += BigInt(network.bought_microusd ?? 0);
    total.test += BigInt(network.test_microusd ?? 0);
    if (network.price_microusd || !BigInt(network.minted)) total.fees += BigInt(network.revenue_microusd);
    total.minted += BigInt(network.minted);
    total.burned += BigInt(network.burned);
    total.mintedWorth += (BigInt(network.minted) * BigInt(network.price_microusd)) / TOKEN;
  }
  return total;
}

export function economics(found: EpochView[]): Economics {
  const read = found.filter(({ damaged, network }) => !damaged && network);
  const latest = read[0];
  return {
    day: sum(within(read, DAY_MS)),
    month: sum(within(read, MONTH_MS)),
    supply: BigInt(latest?.network?.supply ?? 0),
    price: BigInt(latest?.network?.price_microusd ?? 0),
    fixed: latest?.policies?.some(({ parameters }) => parameters?.["model"] === FIXED) ?? false,
    until: latest?.until_ms,
    whole: isWhole(found.length, read),
  };
}

/** What so much would be in a year; undefined where less than a day is known, of which nothing follows for a year. */
export const yearly = (value: bigint, ms: number): number | undefined => (ms < DAY_MS ? undefined : (Number(value) / ms) * YEAR_MS);

/** Fees in credits that somebody paid for, over the worth of what was minted meanwhile; undefined where that is nothing. */
export const coverage = ({ month }: Economics): number | undefined => (month.mintedWorth ? Number(month.fees) / Number(month.mintedWorth) : undefined);

/** By how much a year of this makes the supply larger. */
export function dilution({ month, supply }: Economics): number | undefined {
  const [net, before] = [month.minted - month.burned, supply - month.minted + month.burned];
  if (before <= 0n || month.ms < DAY_MS) return undefined;
  return (1 + Number(net) / Number(before)) ** (YEAR_MS / month.ms) - 1;
}

/** The worth of all tokens over a year's usage. */
export function multiple({ month, supply, price }: Economics): number | undefined {
  const worth = Number((supply * price) / TOKEN);
  const revenue = yearly(month.usage, month.ms);
  return worth && revenue ? worth / revenue : undefined;
}

/** What a vertical did in the last 30 days, as far as its epochs were added up. */
export function done(vertical: Vertical) {
  const read = within(vertical.epochs, MONTH_MS).flatMap(({ from_ms, until_ms, sums, price_microusd: price }) => (sums ? [{ ms: until_ms - from_ms, sums, price: price ?? 0 }] : []));
  const priced = read.filter(({ sums, price }) => (price || !BigInt(sums.incentive ?? "0")) && sums.fees_microusd !== null && sums.fees_microusd !== undefined);
  const add = (of: (sums: (typeof read)[number]["sums"]) => bigint | number | string): bigint => read.reduce((total, { sums }) => total + BigInt(of(sums)), 0n);
  return {
    epochs: read.length,
    ms: read.reduce((total, { ms }) => total + ms, 0),
    latest: vertical.epochs[0]?.sums ?? undefined,
    whole: isWhole(vertical.epochs.length, vertical.epochs),
    usage: add((sums) => sums.usage_microusd ?? 0),
    test: add((sums) => sums.test_microusd ?? 0),
    incentive: add((sums) => sums.incentive ?? "0"),
    leases: Number(add((sums) => sums.leases ?? 0)),
    leasesDone: Number(add((sums) => sums.leases_done ?? 0)),
    charged: Number(add((sums) => sums.charged_core_s ?? 0)),
    useful: Number(add((sums) => sums.core_s ?? 0)),
    paid: add((sums) => sums.leases_microusd ?? 0),
    /** Fees over the worth of what was minted, of epochs in which both are known. */
    fees: priced.reduce((total, { sums }) => total + BigInt(sums.fees_microusd ?? 0), 0n),
    mintedWorth: priced.reduce((total, { sums, price }) => total + (BigInt(sums.incentive ?? "0") * BigInt(price)) / TOKEN, 0n),
  };
}
export type Done = ReturnType<typeof done>;
