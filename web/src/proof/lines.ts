/** What each node's records came to in an epoch: see src/fallow/domain/epochs/lines.py. */
import { amount, hex } from "./bytes";
import { frames } from "./frames";

export interface Line {
  vertical: string;
  node: string;
  account: string;
  units: bigint;
  score: bigint;
  usage: bigint;
  incentive: bigint;
  money: Money[];
  /** Records by verdict and code, and leases by why they ended and who caused it. */
  verdicts: [string, string, number][];
  ended: [string, string, number][];
  kept: Kept[];
}

/** Micro-US-dollars of one class of credits; what is not `bought` the network ordered itself, and paid from its fees. */
export interface Money {
  credit: number;
  bought: boolean;
  income: bigint;
  fee: bigint;
  reserve: bigint;
  refunded: bigint;
  madeGood: bigint;
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

type Row = [string, Uint8Array, Uint8Array, number | bigint, number | bigint, Uint8Array, Uint8Array, MoneyRow[], Line["verdicts"], Line["ended"], KeptRow[]?];
type MoneyRow = [number, boolean, ...amounts: (number | bigint)[]];
type KeptRow = [string, Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array, string];

/** What the network's own records say that a policy judged is on a line of no account: it earns nothing, and is no node's. */
export const isNobodys = ({ account }: Line): boolean => account === "0x";

/** Of a longer file pages say so, and do not load it. */
export const LINES_BYTES_MAX = 4 << 20;

/** Reads the file `lines`. */
export const lines = (data: Uint8Array): Line[] => frames(data).flatMap((piece) => (piece as [string, Row[]])[1].map(line));

function line([vertical, node, account, units, score, usage, incentive, money, verdicts, ended, kept]: Row): Line {
  return {
    vertical,
    node: hex(node),
    account: `0x${hex(account)}`,
    units: BigInt(units),
    score: BigInt(score),
    usage: amount(usage),
    incentive: amount(incentive),
    money: money.map(([credit, bought, income = 0, fee = 0, reserve = 0, refunded = 0, madeGood = 0]) => ({
      credit,
      bought,
      ...{ income: BigInt(income), fee: BigInt(fee), reserve: BigInt(reserve) },
      ...{ refunded: BigInt(refunded), madeGood: BigInt(madeGood) },
    })),
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
