/** The distributor contract, asked through a JSON-RPC that the reader trusts. Where it does not answer, Failed is raised. */
import { Failed } from "../lib/api";
import { amount, hex, joined, keccak, text, unhex, word } from "./bytes";

export class Rpc {
  constructor(
    readonly url: string,
    readonly contract: Uint8Array,
  ) {}

  async chainId(): Promise<number> {
    return Number(await this.#ask("eth_chainId", []));
  }

  /** The root that the contract has for an epoch, and from when (Unix time) claims count on it. */
  async root(epoch: number): Promise<{ root: Uint8Array; activeAt: bigint }> {
    const words = await this.#call("roots(uint64)", word(epoch));
    return { root: words[0] ?? new Uint8Array(32), activeAt: amount(words[1] ?? new Uint8Array(0)) };
  }

  async claimed(account: Uint8Array, asset: Uint8Array): Promise<bigint> {
    const words = await this.#call("claimed(address,address)", word(account), word(asset));
    return amount(words[0] ?? new Uint8Array(0));
  }

  async #call(signature: string, ...words: Uint8Array[]): Promise<Uint8Array[]> {
    const data = joined(keccak(text(signature)).subarray(0, 4), ...words);
    const call = { to: `0x${hex(this.contract)}`, data: `0x${hex(data)}` };
    const answer = unhex(await this.#ask("eth_call", [call, "latest"]));
    return Array.from({ length: Math.floor(answer.length / 32) }, (_, at) => answer.subarray(32 * at, 32 * at + 32));
  }

  async #ask(method: string, params: unknown[]): Promise<string> {
    try {
      const answer = await fetch(this.url, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
        credentials: "omit",
        signal: AbortSignal.timeout(20_000),
      });
      const said = (await answer.json()) as { result?: string; error?: { message?: string } };
      if (typeof said.result === "string") return said.result;
      throw new Error(said.error?.message ?? `HTTP ${answer.status}`);
    } catch (error) {
      throw new Failed("rpc", (error as Error).message);
    }
  }
}
