/** What would raise a line of an epoch, as far as the line itself tells; the command says it by the rules of the epoch. */
import type { Words } from "../words/en";
import type { Row } from "./earned";
import { number, percent } from "./format";

const PPM = 1_000_000;

/** In plain words; empty where nothing is known to. */
export function raising({ line, test, mints }: Row, w: Words): string[] {
  const found: string[] = [];
  const counted = (which: (row: [string, string, number]) => boolean, rows: [string, string, number][]) =>
    rows.filter(which).reduce((sum, [, , count]) => sum + count, 0);
  if (line.vertical && !line.score) found.push(w.raiseSuspended);
  else if (line.vertical && line.score < PPM) found.push(w.raiseScore(percent(Number(line.score), PPM)));
  const rejected = counted(([verdict]) => verdict === "rejected", line.verdicts);
  if (rejected) found.push(w.raiseRejected(number(rejected)));
  const own = counted(([, cause]) => cause === "provider", line.ended);
  if (own) found.push(w.raiseEnded(number(own)));
  if (line.kept.some(({ held }) => held)) found.push(w.raiseHeld);
  if (line.kept.some(({ vesting }) => vesting)) found.push(w.raiseVesting);
  if (line.units && !line.usage) found.push(w.raiseUnsold);
  if (line.usage && test) found.push(w.raiseTest);
  else if (line.usage) found.push(mints ? w.raiseMore : w.raiseUsage);
  return found;
}
