/** What each node's records came to in an epoch: see src/fallow/domain/epochs/lines.py. */
import { decode } from "cborg";

import { amount, hex } from "./bytes";

export interface Line {
  vertical: string;
  node: string;
  account: string;
  units: bigint;
  score: bigint;
  usage: bigint;
  incentive: bigint;
  /** Records by verdict and code, and leases by why they ended and who caused it. */
  verdicts: [string, string, number][];
  ended: [string, string, number][];
  kept: Kept[];
}

/** What of a part of the pay ("usage", "incentive") is owed at another time than it was earned. */
export interface Kept {
  part: string;
  held: bigint;
  released: bigint;
  vesting: bigint;
  vested: bigint;
  forfeited: bigint;
  code: string;
}

type Row = [string, Uint8Array, Uint8Array, number | bigint, number | bigint, Uint8Array, Uint8Array, unknown, Line["verdicts"], Line["ended"], KeptRow[]?];
type KeptRow = [string, Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array, string];

/** Of a longer file pages say so, and do not load it. */
export const LINES_BYTES_MAX = 4 << 20;
const LENGTH_BYTES = 4;

/** Reads the file `lines`: pieces of CBOR, each behind four bytes of length. */
export function lines(data: Uint8Array): Line[] {
  const found: Line[] = [];
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < data.length; ) {
    const end = at + LENGTH_BYTES + view.getUint32(at);
    const [, rows] = decode(data.subarray(at + LENGTH_BYTES, end)) as [string, Row[]];
    for (const row of rows) found.push(line(row));
    at = end;
  }
  return found;
}

function line([vertical, node, account, units, score, usage, incentive, , verdicts, ended, kept]: Row): Line {
  return {
    vertical,
    node: hex(node),
    account: `0x${hex(account)}`,
    units: BigInt(units),
    score: BigInt(score),
    usage: amount(usage),
    incentive: amount(incentive),
    verdicts,
    ended,
    kept: (kept ?? []).map(([part, held, released, vesting, vested, forfeited, code]) => ({
      part,
      held: amount(held),
      released: amount(released),
      vesting: amount(vesting),
      vested: amount(vested),
      forfeited: amount(forfeited),
      code,
    })),
  };
}
