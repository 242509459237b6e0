/** What the gateway answers. Types come from its OpenAPI document: `gateway.d.ts` is made by tools/write_console.py. */
import type { components } from "./gateway";

type Schemas = components["schemas"];
export type Network = Schemas["NetworkView"];
export type Market = Schemas["MarketView"];
export type NodeView = Schemas["NodeView"];
export type EpochView = Schemas["EpochView"];
export type Proof = Schemas["ProofView"];
export type Votes = Schemas["VotesView"];

/** A refusal of the gateway, or that it cannot be reached (`code` is "offline" then). */
export class Failed extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly hint = "",
    readonly status = 0,
  ) {
    super(message);
  }
}

const WAIT_MS = 20_000;
const TRIES = 4;

/** Asks for JSON. Raises Failed. */
export async function ask<T>(path: string): Promise<T> {
  const answer = await get(path);
  return (await answer.json()) as T;
}

/** Asks for a file of an epoch, at most `bytesMax` bytes of it. Raises Failed. */
export async function file(epoch: number, name: string, bytesMax: number): Promise<Uint8Array> {
  const answer = await get(`/v1/epochs/${epoch}/files/${name}`);
  const size = Number(answer.headers.get("Content-Length") ?? bytesMax + 1);
  if (size > bytesMax) {
    await answer.body?.cancel();
    throw new Failed("console.large", `${name} has ${size} bytes.`);
  }
  return new Uint8Array(await answer.arrayBuffer());
}

async function get(path: string): Promise<Response> {
  for (let tried = 1; ; tried += 1) {
    const answer = await reach(path);
    if (answer.ok) return answer;
    if (answer.status !== 429 || tried === TRIES) throw await failure(answer);
    await new Promise((go) => setTimeout(go, 1000 * Number(answer.headers.get("Retry-After") ?? 1)));
  }
}

async function reach(path: string): Promise<Response> {
  try {
    return await fetch(path, { signal: AbortSignal.timeout(WAIT_MS) });
  } catch {
    throw new Failed("offline", "");
  }
}

async function failure(answer: Response): Promise<Failed> {
  try {
    const said = (await answer.json()) as Schemas["ErrorView"];
    return new Failed(said.code, said.message, said.hint, answer.status);
  } catch {
    return new Failed("http", `HTTP ${answer.status}`, "", answer.status);
  }
}
