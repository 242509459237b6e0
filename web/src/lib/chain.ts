/** A network's chain as its readers' wallets use it: what it is, what an account has there, and what became of a transaction. */
import { amount, sha256, text, unhex, word } from "../proof/bytes";
import { readNumber } from "../proof/rpc";
import { Failed, type Network } from "./api";
import { request, type Chain } from "./wallet";

/** The least deposit and the least withdrawal: `Distributor.DEPOSIT_MIN`, in millionths of a US dollar. */
export const LEAST = 10_000n;
const MOST = 10n ** 15n;
const EMBEDDED_FIRST = 1n << 40n;
const EMBEDDED_SPAN = 1n << 48n;
const POLL_MS = 1000;

export type Contracts = NonNullable<Network["contracts"]>;

/** Whether the network runs its chain itself: its number says so (src/fallow/domain/chains.py). */
export function isEmbedded(network: Network): boolean {
  const place = amount(sha256(text(`fallow/chain/${network.net}`))) % EMBEDDED_SPAN;
  return BigInt(network.chain_id ?? 0) === EMBEDDED_FIRST + place;
}

/**
 * The chain as wallets are told of it. Only of its own does a network say where it is asked: of others it could name
 * a node that lies, and the wallet would believe that one in all that its holder does there.
 */
export function chainOf(network: Network): Chain {
  return { id: network.chain_id ?? 0, name: `Fallow ${network.net}`, rpc: isEmbedded(network) ? (network.chain_url ?? "") : "" };
}

/** What an account has of an asset. Raises Failed. */
export function held(asset: string, account: string): Promise<bigint> {
  return readNumber(request, unhex(asset), "balanceOf(address)", word(unhex(account)));
}

/** How much of an asset a contract may take from an account. Raises Failed. */
export function allowed(asset: string, account: string, by: string): Promise<bigint> {
  return readNumber(request, unhex(asset), "allowance(address,address)", word(unhex(account)), word(unhex(by)));
}

/** Waits until a transaction is in a block, and says whether it did what it should. Raises Failed; `stopped` on `signal`. */
export async function mined(transaction: string, signal: AbortSignal): Promise<boolean> {
  for (;;) {
    const receipt = (await request("eth_getTransactionReceipt", [transaction])) as { status?: string } | null;
    if (receipt?.status) return Number(receipt.status) === 1;
    await pause(signal);
  }
}

/** Waits a moment before something is asked again. Raises Failed: `stopped`. */
export async function pause(signal: AbortSignal): Promise<void> {
  await new Promise((go) => setTimeout(go, POLL_MS));
  if (signal.aborted) throw new Failed("stopped", "");
}

/** An amount of US dollars that somebody types, in millionths; undefined where it is none, too little or too fine. */
export function microusd(typed: string): bigint | undefined {
  const [, whole, part = ""] = /^(\d{1,10})(?:\.(\d{1,6}))?$/.exec(typed.trim()) ?? [];
  if (whole === undefined) return undefined;
  const units = BigInt(whole) * 1_000_000n + BigInt(part.padEnd(6, "0"));
  return units >= LEAST && units <= MOST ? units : undefined;
}
