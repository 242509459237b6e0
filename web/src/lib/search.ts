/** Where what somebody looks for has its page: a node, an account, an epoch, a job of his own, a network. */
import { ask, Failed, type NodeView, type Vertical } from "./api";
import { session } from "./session.svelte";

const ID_DIGITS = 64;
const START_MIN = 4;

/** Asks whether it is there: what it is, or undefined where there is none. */
async function there<T>(path: string): Promise<T | undefined> {
  try {
    return await ask<T>(path);
  } catch (error) {
    if (error instanceof Failed && [400, 401, 403, 404].includes(error.status)) return undefined;
    throw error;
  }
}

/** The page of what was typed; undefined where nothing is found. Raises Failed. */
export async function find(typed: string): Promise<string | undefined> {
  const text = typed.trim().toLowerCase();
  if (/^\d{1,15}$/.test(text) && (await there(`/v1/epochs/${text}`))) return `/epochs/${text}`;
  if (/^0x[0-9a-f]{40}$/.test(text)) return (await there(`/v1/payouts/${text}`)) ? `/accounts/${text}` : undefined;
  if (session.signedIn && /^[0-9a-f]{32}$/.test(text) && (await there(`/v1/jobs/${text}`))) return `/jobs/${text}`;
  if (/^[0-9a-f]+$/.test(text) && text.length >= START_MIN && text.length <= ID_DIGITS) {
    const node = await first(text);
    if (node) return `/nodes/${node}`;
  }
  if (!/^[a-z_]{1,20}$/.test(text)) return undefined;
  return (await ask<Vertical[]>("/v1/networks")).some(({ name }) => name === text) ? `/networks/${text}` : undefined;
}

/** The first node whose id begins so: they come in the order of their ids. */
async function first(start: string): Promise<string | undefined> {
  const least = BigInt(`0x${start.padEnd(ID_DIGITS, "0")}`);
  const after = least ? (least - 1n).toString(16).padStart(ID_DIGITS, "0") : "";
  const [node] = (await there<NodeView[]>(`/v1/nodes?limit=1&after=${after}`)) ?? [];
  return node?.node.startsWith(start) ? node.node : undefined;
}
