/** Sums of verticals, which nobody signs, held against what was signed: done in this browser. */
import { lines, LINES_BYTES_MAX } from "../proof/lines";
import { check } from "../proof/statement";
import { sums } from "../proof/totals";
import { ask, file, type EpochView, type Failed, type Network, type Vertical } from "./api";
import { closed } from "./history";

/** What was found of one epoch: `wrong` names what is not so, `trouble` says why it could not be looked at. */
export interface Found {
  epoch: number;
  wrong: ("nodes" | "units" | "incentive" | "usage" | "test")[];
  trouble?: Failed;
}

/** Nodes, units and incentive are added up again from signed lines; what all verticals took has to be what the statement says. */
export async function checkSums(network: Network, vertical: Vertical, all: readonly Vertical[], epoch: number): Promise<Found> {
  const told = vertical.epochs.find((one) => one.epoch === epoch)?.sums;
  const { sealed, trouble } = await closed(await ask<EpochView>(`/v1/epochs/${epoch}`), network);
  if (!sealed || !told) return { epoch, wrong: [], ...(trouble && { trouble }) };
  const data = sealed.said.files.some(({ name, size }) => name === "lines" && size) ? await file(epoch, "lines", LINES_BYTES_MAX) : new Uint8Array();
  if (data.length) check(sealed.said, "lines", data);
  const mine = lines(data).filter((line) => line.vertical === vertical.name && !/^0x0*$/.test(line.account));
  const add = (of: (line: (typeof mine)[number]) => bigint): bigint => mine.reduce((total, line) => total + of(line), 0n);
  const took = (part: "usage_microusd" | "test_microusd"): bigint =>
    all.reduce((total, one) => total + BigInt(one.epochs.find((shown) => shown.epoch === epoch)?.sums?.[part] ?? 0), 0n);
  const signed = sums(sealed.said);
  const agrees = {
    nodes: new Set(mine.map(({ node }) => node)).size === (told.nodes ?? 0),
    units: add(({ units }) => units) === BigInt(told.units ?? 0),
    incentive: add(({ incentive }) => incentive) === BigInt(told.incentive ?? "0"),
    usage: took("usage_microusd") === signed.usage,
    test: took("test_microusd") === signed.test,
  };
  return { epoch, wrong: (Object.keys(agrees) as Found["wrong"]).filter((name) => !agrees[name as keyof typeof agrees]) };
}
