/** What a node or an account earned in the latest epochs, from their signed lines. */
import { lines, LINES_BYTES_MAX, type Line } from "../proof/lines";
import { check, type Statement } from "../proof/statement";
import { isTest, sums } from "../proof/totals";
import { ask, file, type EpochView, type Network } from "./api";
import { closed } from "./history";
import { words } from "./words";

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
  unread: { view: EpochView; why: string }[];
}

/** Of the lines that fit. */
export async function earned(network: Network, fits: (line: Line) => boolean): Promise<Earned> {
  const views = await ask<EpochView[]>(`/v1/epochs?limit=${EPOCHS}`);
  const read = await Promise.all(views.map((view) => earnedIn(view, network, fits)));
  const readMs = read.filter(({ why }) => !why).reduce((sum, { view }) => sum + view.until_ms - view.from_ms, 0);
  return { rows: read.flatMap(({ rows }) => rows), readMs, unread: read.filter(({ why }) => why) };
}

async function earnedIn(view: EpochView, network: Network, fits: (line: Line) => boolean): Promise<{ view: EpochView; rows: Row[]; why: string }> {
  const { sealed, why } = await closed(view, network);
  if (!sealed) return { view, rows: [], why };
  const size = sealed.said.files.find((one) => one.name === "lines")?.size ?? 0;
  if (!size) return { view, rows: [], why: "" };
  if (size > LINES_BYTES_MAX) return { view, rows: [], why: words().linesLarge };
  const data = await file(view.epoch, "lines", LINES_BYTES_MAX);
  check(sealed.said, "lines", data);
  return { view, rows: lines(data).filter(fits).map((line) => rowOf(view, sealed.said, line)), why: "" };
}

export const rowOf = (view: EpochView, said: Statement, line: Line): Row => ({ view, said, line, test: isTest(said), mints: sums(said).mints });
