/** The browser's wallet, where it has one (EIP-1193). It asks the chain, signs and sends: this page does none of that itself. */
import { hex, text as encoded } from "../proof/bytes";
import { Failed } from "./api";

interface Wallet {
  request(asked: { method: string; params?: unknown[] }): Promise<unknown>;
  on?(event: string, heard: () => void): void;
  removeListener?(event: string, heard: () => void): void;
}

/** A chain as wallets are told of one that they do not know (EIP-3085). */
export interface Chain {
  id: number;
  name: string;
  rpc: string;
}

const CODES: Record<number, string> = { 4001: "wallet.declined", 4902: "wallet.chain_unknown", [-32002]: "wallet.open" };
const CHANGES = ["accountsChanged", "chainChanged"];

function here(): Wallet | undefined {
  return (globalThis as { ethereum?: Wallet }).ethereum;
}

/** Whether there is one to be asked. */
export function hasWallet(): boolean {
  return here() !== undefined;
}

/** The account that its holder lets this page know, as the gateway writes it. Raises Failed. */
export async function account(): Promise<string> {
  const first = await firstOf("eth_requestAccounts");
  if (first === undefined) throw new Failed("wallet.account", "");
  return first;
}

/** The same without asking its holder: undefined where this page knows none yet. Raises Failed. */
export async function knownAccount(): Promise<string | undefined> {
  return firstOf("eth_accounts");
}

/** The number of the chain that it is on. Raises Failed. */
export async function chainId(): Promise<number> {
  return Number(await request("eth_chainId"));
}

/** Has a text signed by an account (`personal_sign`). Raises Failed. */
export async function sign(text: string, by: string): Promise<string> {
  const signature = await request("personal_sign", [`0x${hex(encoded(text))}`, by]);
  return String(signature).toLowerCase();
}

/** A call of a contract, on one chain and no other. */
export interface Call {
  chain: number;
  from: string;
  to: string;
  data: Uint8Array;
}

/** Has a call signed and sent; returns the transaction's hash. Raises Failed: `wallet.other_chain` where it is on another one. */
export async function send({ chain, from, to, data }: Call): Promise<string> {
  if ((await chainId()) !== chain) throw new Failed("wallet.other_chain", "");
  const transaction = { chainId: hexadecimal(chain), from, to, data: `0x${hex(data)}`, value: "0x0" };
  return String(await request("eth_sendTransaction", [transaction])).toLowerCase();
}

/** Has it change to a chain. Raises Failed: `wallet.chain_unknown` where it does not know that one. */
export async function change(chain: Chain): Promise<void> {
  await request("wallet_switchEthereumChain", [{ chainId: hexadecimal(chain.id) }]);
}

/** Tells it of a chain, and has it change to that one. Raises Failed. */
export async function add(chain: Chain): Promise<void> {
  const nativeCurrency = { name: "Ether", symbol: "ETH", decimals: 18 };
  const { id, name: chainName, rpc } = chain;
  await request("wallet_addEthereumChain", [{ chainId: hexadecimal(id), chainName, rpcUrls: [rpc], nativeCurrency }]);
  await change(chain);
}

/** Calls `changed` when its holder chooses another account or chain; what it returns ends that. */
export function watch(changed: () => void): () => void {
  const wallet = here();
  for (const event of CHANGES) wallet?.on?.(event, changed);
  return () => {
    for (const event of CHANGES) wallet?.removeListener?.(event, changed);
  };
}

/** Asks it anything. Raises Failed. */
export async function request(method: string, params: unknown[] = []): Promise<unknown> {
  try {
    return await here()?.request({ method, params });
  } catch (error) {
    const { code, message } = error as { code?: number; message?: string };
    throw new Failed(CODES[code ?? 0] ?? "wallet.failed", "", message);
  }
}

async function firstOf(method: string): Promise<string | undefined> {
  const known = await request(method);
  const first: unknown = Array.isArray(known) ? known[0] : undefined;
  return typeof first === "string" ? first.toLowerCase() : undefined;
}

const hexadecimal = (number: number): string => `0x${number.toString(16)}`;
