/** Deposits: two calls of contracts, and the line of the ledger that says that one has become credits. */
import { unhex, word } from "../proof/bytes";
import { call } from "../proof/calls";
import { ask, type Movement } from "./api";
import { pause, type Contracts } from "./chain";

const PAGE = 1000;
const KEPT = "fallow.deposit";

/** A deposit that is on its way, so that a page that is loaded anew goes on with it. */
export interface Going {
  owner: string;
  /** In millionths of a US dollar. */
  units: string;
  hash: string;
}

/** Let the contract take an amount of the settlement asset, and no more than that. */
export const approveCall = ({ distributor }: Contracts, units: bigint): Uint8Array =>
  call("approve(address,uint256)", word(unhex(distributor)), word(units));

/** Have it taken for paid credits of an account. */
export const depositCall = (owner: string, units: bigint): Uint8Array =>
  call("deposit(address,uint256)", word(unhex(owner)), word(units));

/** Waits until a transaction's deposit is in the ledger. Raises Failed; `stopped` on `signal`. */
export async function credited(hash: string, signal: AbortSignal): Promise<void> {
  for (let after = ""; ; ) {
    const lines = await ask<Movement[]>(`/v1/account/statement?after=${after}&limit=${PAGE}`);
    if (lines.some(({ kind, ref }) => kind === "deposit" && `0x${ref}` === hash)) return;
    after = lines[lines.length - 1]?.id ?? after;
    if (!lines.length) await pause(signal);
  }
}

/** Remembers it in this tab, or with undefined forgets it. */
export function keep(going: Going | undefined): void {
  if (going) sessionStorage.setItem(KEPT, JSON.stringify(going));
  else sessionStorage.removeItem(KEPT);
}

/** The one that is on its way to an account. */
export function kept(owner: string): Going | undefined {
  const going = JSON.parse(sessionStorage.getItem(KEPT) ?? "null") as Going | null;
  return going?.owner === owner ? going : undefined;
}
