/** What an account spent, by hour, as the ledger has it. */
import type { Balance, Spending } from "./api";

const DAY_MS = 86_400_000;
const TEST = "granted";

const of = (classes: Record<string, number>, test: boolean): number =>
  Object.entries(classes).reduce((sum, [name, amount]) => sum + ((name === TEST) === test ? amount : 0), 0);

/** In TEST credits, or in all others: they are never added up. */
export const spent = ({ hours }: Spending, test: boolean): number => hours.reduce((sum, one) => sum + of(one.spent, test), 0);

/** Whether nothing but TEST credits was spent. */
export const inTest = (found: Spending): boolean => !spent(found, false) && !!spent(found, true);

/** Whether the account never paid with anything but TEST credits. */
export const onlyTest = ({ spent: paid }: Balance): boolean => !Object.entries(paid ?? {}).some(([name, amount]) => name !== TEST && amount);

/** Each day (UTC) that something was spent on, the latest first. */
export function byDay({ hours }: Spending, test: boolean): { day: number; spent: number }[] {
  const days = new Map<number, number>();
  for (const one of hours) {
    const day = Math.floor(one.at / DAY_MS) * DAY_MS;
    days.set(day, (days.get(day) ?? 0) + of(one.spent, test));
  }
  return [...days].map(([day, sum]) => ({ day, spent: sum })).filter((one) => one.spent);
}
