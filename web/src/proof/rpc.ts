/** The network's contracts on the chain, through a node that the reader trusts: his wallet's, or an RPC that he names. */
import { Failed } from "../lib/api";
import { amount, hex, unhex, word } from "./bytes";
import { call } from "./calls";

/** Asks a node: a method and its parameters. Raises Failed. */
export type Ask = (method: string, params: unknown[]) => Promise<unknown>;

export interface Root {
  epoch: number;
  root: Uint8Array;
  /** From when (Unix time) claims count on it; 0 where the contract has none. */
  activeAt: bigint;
  /** Epochs since the root before. */
  gap: number;
}

/** Calls a function of a contract that changes nothing; returns the words that it answers. Raises Failed. */
export async function read(ask: Ask, contract: Uint8Array, signature: string, ...words: Uint8Array[]): Promise<Uint8Array[]> {
  const asked = { to: `0x${hex(contract)}`, data: `0x${hex(call(signature, ...words))}` };
  const said = await ask("eth_call", [asked, "latest"]);
  if (typeof said !== "string" || said.length < 66) throw new Failed("rpc.contract", "");
  const answer = unhex(said);
  return Array.from({ length: Math.floor(answer.length / 32) }, (_, at) => answer.subarray(32 * at, 32 * at + 32));
}

/** The same where it answers one number. */
export async function readNumber(ask: Ask, contract: Uint8Array, signature: string, ...words: Uint8Array[]): Promise<bigint> {
  const [first] = await read(ask, contract, signature, ...words);
  return amount(first ?? new Uint8Array(0));
}

export class Distributor {
  constructor(
    readonly ask: Ask,
    readonly contract: Uint8Array,
  ) {}

  async chainId(): Promise<number> {
    return Number(await this.ask("eth_chainId", []));
  }

  async root(epoch: number): Promise<Root> {
    const [root, activeAt, gap] = await read(this.ask, this.contract, "roots(uint64)", word(epoch));
    const none = new Uint8Array(0);
    return { epoch, root: root ?? new Uint8Array(32), activeAt: amount(activeAt ?? none), gap: Number(amount(gap ?? none)) };
  }

  /** The newest root that pays at a time (Unix time); undefined where none does. */
  async active(now_s: number): Promise<Root | undefined> {
    let root = await this.root(Number(await this.#number("lastEpoch()")));
    while (root.activeAt > BigInt(now_s)) root = await this.root(root.epoch - root.gap);
    return root.activeAt ? root : undefined;
  }

  /** What an account was paid of an asset since the beginning. */
  claimed(account: Uint8Array, asset: Uint8Array): Promise<bigint> {
    return this.#number("claimed(address,address)", word(account), word(asset));
  }

  /** Number of the next redirection that an account signs. */
  nonce(account: Uint8Array): Promise<bigint> {
    return this.#number("nonces(address)", word(account));
  }

  #number(signature: string, ...words: Uint8Array[]): Promise<bigint> {
    return readNumber(this.ask, this.contract, signature, ...words);
  }
}

/** A node that is asked over HTTP. */
export const at =
  (url: string): Ask =>
  async (method, params) => {
    try {
      const answer = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
        credentials: "omit",
        signal: AbortSignal.timeout(20_000),
      });
      const said = (await answer.json()) as { result?: unknown; error?: { message?: string } };
      if (said.error || said.result === undefined) throw new Error(said.error?.message ?? `HTTP ${answer.status}`);
      return said.result;
    } catch (error) {
      throw new Failed("rpc", "", (error as Error).message);
    }
  };
