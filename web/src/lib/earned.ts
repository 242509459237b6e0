/** What a node or an account earned in the latest epochs, from their signed lines. */
import { lines, LINES_BYTES_MAX, type Line } from "../proof/lines";
import { check, type Statement } from "../proof/statement";
import { isTest, sums } from "../proof/totals";
import { ask, Failed, file, type EpochView, type Network } from "./api";
import { closed } from "./history";

const EPOCHS = 7;

export interface Row {
  view: EpochView;
  said: Statement;
  line: Line;
  test: boolean;
  /** Whether the network mints a token at all. */
  mints: boolean;
}

export interface Earned {
  rows: Row[];
  /** How long the epochs lasted together whose lines were read. */
  readMs: number;
  /** Of which epochs the lines were not read, and why. */
  unread: { view: EpochView; trouble: Failed }[];
}

/** Of the lines that fit. */
export async function earned(network: Network, fits: (line: Line) => boolean): Promise<Earned> {
  const views = await ask<EpochView[]>(`/v1/epochs?limit=${EPOCHS}`);
  const read = await Promise.all(views.map((view) => earnedIn(view, network, fits)));
  const readMs = read.filter(({ trouble }) => !trouble).reduce((sum, { view }) => sum + view.until_ms - view.from_ms, 0);
  return { rows: read.flatMap(({ rows }) => rows), readMs, unread: read.flatMap(({ view, trouble }) => (trouble ? [{ view, trouble }] : [])) };
}

async function earnedIn(view: EpochView, network: Network, fits: (line: Line) => boolean): Promise<{ view: EpochView; rows: Row[]; trouble?: Failed }> {
  const { sealed, trouble } = await closed(view, network);
  if (!sealed) return { view, rows: [], ...(trouble && { trouble }) };
  const size = sealed.said.files.find((one) => one.name === "lines")?.size ?? 0;
  if (!size) return { view, rows: [] };
  if (size > LINES_BYTES_MAX) return { view, rows: [], trouble: new Failed("console.lines", "") };
  const data = await file(view.epoch, "lines", LINES_BYTES_MAX);
  check(sealed.said, "lines", data);
  return { view, rows: lines(data).filter(fits).map((line) => rowOf(view, sealed.said, line)) };
}

export const rowOf = (view: EpochView, said: Statement, line: Line): Row => ({ view, said, line, test: isTest(said), mints: sums(said).mints });
