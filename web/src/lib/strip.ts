/** A machine's last 24 hours, as the network saw them, in stretches in which nothing changed. */
import type { OwnNode } from "./api";

type Day = NonNullable<OwnNode["day"]>;

export interface Stretch {
  from: number;
  until: number;
  /** In how many slots. */
  slots: number;
  /** All that it was in each of them, what is drawn first; none: nobody saw it. */
  states: readonly string[];
}

/** The bits of a digit. What stands first is drawn where there are several: what somebody would look for. */
const BITS = [["busy", 1], ["paused", 4], ["offline", 8], ["idle", 2]] as const;

export function stretches({ at, slot_ms, slots }: Day): Stretch[] {
  const end = Math.floor(at / slot_ms) * slot_ms + slot_ms;
  let from = end - slots.length * slot_ms;
  return (slots.match(/(.)\1*/g) ?? []).map((run) => {
    const digit = Number.parseInt(run.charAt(0), 16);
    const stretch = { from, until: from + run.length * slot_ms, slots: run.length, states: BITS.filter(([, bit]) => digit & bit).map(([state]) => state) };
    from = stretch.until;
    return stretch;
  });
}

/** In how many slots each state is the one that is drawn; "" where nobody saw it. */
export function drawn(found: readonly Stretch[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { states, slots } of found) counts.set(states[0] ?? "", (counts.get(states[0] ?? "") ?? 0) + slots);
  return counts;
}
