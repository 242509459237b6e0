/** What became of an epoch's records: how many counted, what they metered, which of it was paid, and why the rest was not. */
import { isNobodys, type Line } from "../proof/lines";

export interface Funnel {
  /** Records that rules judged, by verdict, and why. */
  accepted: number;
  lost: { verdict: string; code: string; count: number }[];
  /** Lines that records came to, those that something was metered of, and those that earned something. */
  lines: number;
  metered: number;
  paid: number;
  /** Of those that were metered and not paid: suspended ones, and those that nobody bought. */
  suspended: number;
  unsold: number;
}

export function funnel(lines: readonly Line[]): Funnel {
  const lost = new Map<string, Funnel["lost"][number]>();
  let accepted = 0;
  for (const [verdict, code, count] of lines.flatMap(({ verdicts }) => verdicts)) {
    if (verdict === "accepted") {
      accepted += count;
      continue;
    }
    const one = lost.get(`${verdict} ${code}`) ?? { verdict, code, count: 0 };
    lost.set(`${verdict} ${code}`, { ...one, count: one.count + count });
  }
  const metered = lines.filter(({ units }) => units > 0n);
  const paid = (line: Line): boolean => line.usage > 0n || line.incentive > 0n;
  const unpaid = metered.filter((line) => !paid(line));
  const suspended = unpaid.filter(({ vertical, score }) => vertical !== "" && !score).length;
  return {
    accepted,
    lost: [...lost.values()].sort((one, other) => other.count - one.count),
    lines: lines.filter((line) => !isNobodys(line)).length,
    metered: metered.length,
    paid: lines.filter(paid).length,
    suspended,
    unsold: unpaid.length - suspended,
  };
}
