/** The browser's wallet, where it has one (EIP-1193). */
import { hex, text as encoded } from "../proof/bytes";
import { Failed } from "./api";

interface Wallet {
  request(asked: { method: string; params?: unknown[] }): Promise<unknown>;
}

const DECLINED = 4001;

function here(): Wallet | undefined {
  return (globalThis as { ethereum?: Wallet }).ethereum;
}

/** Whether there is one to be asked. */
export function hasWallet(): boolean {
  return here() !== undefined;
}

/** The account that its holder lets this page know, as the gateway writes it. Raises Failed. */
export async function account(): Promise<string> {
  const known = await request("eth_requestAccounts");
  const first: unknown = Array.isArray(known) ? known[0] : undefined;
  if (typeof first !== "string") throw new Failed("wallet.account", "The wallet names no account.");
  return first.toLowerCase();
}

/** Has a text signed by an account (`personal_sign`). Raises Failed. */
export async function sign(text: string, by: string): Promise<string> {
  const signature = await request("personal_sign", [`0x${hex(encoded(text))}`, by]);
  return String(signature).toLowerCase();
}

async function request(method: string, params: unknown[] = []): Promise<unknown> {
  try {
    return await here()?.request({ method, params });
  } catch (error) {
    const { code, message } = error as { code?: number; message?: string };
    throw new Failed(code === DECLINED ? "wallet.declined" : "wallet.failed", message ?? "The wallet gave no answer.");
  }
}
