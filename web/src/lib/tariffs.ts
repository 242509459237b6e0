/** What shared services cost by the meter, as people speak of it. */
import type { Meter, Prices, Tariff } from "./api";
import { dollars, listed, number } from "./format";
import { look } from "./look.svelte";

/** Micro-dollars for as much of a meter as people speak of. */
export const unitPrice = ({ microusd, per, unit_per }: Meter): number => (microusd * (unit_per ?? 1)) / per;

/** How much that is, in words. */
export const unitOf = ({ meter, unit, unit_per }: Meter): string => unit?.[look.tongue] ?? `${number(unit_per ?? 1)} ${meter}`;

/** All prices of a tariff in one line. */
export const priceList = (meters: Meter[]): string => listed(meters.map((one) => `${unitOf(one)} ${dollars(unitPrice(one))}`));

/** Of those who say what is paid by the meter: what of it is one vertical's. */
export const metersOf = ({ meters }: { meters?: Meter[] }, vertical: string): Meter[] => (meters ?? []).filter((one) => one.vertical === vertical);

/** Whether anything would cost less than what owners were told for the next day, who earn by it. */
export function isLess(wanted: Record<string, number>, now: Prices, vertical: string, until: number): boolean {
  const soon = (now.next_tariffs ?? []).filter((one: Tariff) => one.vertical === vertical && one.from_ms < until);
  return [metersOf(now, vertical), ...soon.map(({ meters }) => meters)].some((told) => told.some((one) => (wanted[one.meter] ?? 0) < unitPrice(one)));
}
