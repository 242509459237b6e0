/** What the gateway answers. Types come from its OpenAPI document: `gateway.d.ts` is made by tools/write_console.py. */
import { hex } from "../proof/bytes";
import type { components } from "./gateway";

type Schemas = components["schemas"];
export type Network = Schemas["NetworkView"];
export type Market = Schemas["MarketView"];
export type Vertical = Schemas["VerticalView"];
export type Rival = Schemas["RivalView"];
export type Happened = Schemas["Happenings"];
export type Happening = Schemas["Happening"];
export type Field = Schemas["MapView"];
export type Cell = Schemas["CellView"];
export type NodeView = Schemas["NodeView"];
export type EpochView = Schemas["EpochView"];
export type Proof = Schemas["ProofView"];
export type Votes = Schemas["VotesView"];
export type Challenge = Schemas["ChallengeView"];
export type Session = Schemas["SessionView"];
export type Balance = Schemas["BalanceView"];
export type Job = Schemas["JobView"];
export type Item = Schemas["ItemView"];
export type Enquiry = Schemas["Enquiry"];
export type Quote = Schemas["QuoteView"];
export type KeyView = Schemas["KeyView"];
export type Secret = Schemas["Secret"];
export type OwnNode = Schemas["OwnNodeView"];
export type OwnRules = Schemas["OwnRulesView"];
export type Rules = Schemas["IdleRules"];
export type Earnings = Schemas["EarningsView"];
export type Alert = Schemas["AlertView"];
export type Channel = Schemas["ChannelView"];
export type Channels = Schemas["ChannelsView"];
export type Payee = Schemas["PayeeView"];
export type Subscription = Schemas["SubscriptionView"];
export type Links = Schemas["LinksView"];
export type ToSign = Schemas["ToSign"];
export type Running = Schemas["RunningView"];
export type Numbered = Schemas["NumberView"];
export type NodesAt = Schemas["NodesAtView"];
export type Mishap = Schemas["MishapView"];
export type Evidence = Schemas["EvidenceView"];
export type Price = Schemas["PriceView"];
export type Prices = Schemas["PricesView"];
export type Meter = Schemas["MeterPriceView"];
export type Tariff = Schemas["TariffView"];
export type Governance = Schemas["GovernanceView"];
export type Governed = Schemas["GovernedView"];
export type Policy = Schemas["PolicyView"];
export type Token = Schemas["TokenView"];
export type Ban = Schemas["BanView"];
export type Action = Schemas["ActionView"];
export type Group = Schemas["GroupView"];
export type WhatIfEpoch = Schemas["WhatIfEpochView"];
export type WhatIfResult = Schemas["WhatIfView"];
export type Spending = Schemas["SpendingView"];
export type Budget = Schemas["BudgetView"];
export type Movement = Schemas["StatementLine"];
export type Redirection = Schemas["RedirectionView"];
export type Withdrawn = Schemas["WithdrawalView"];

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

/** What was thrown, as something that a page can show. */
export const failed = (error: unknown): Failed => (error instanceof Failed ? error : new Failed("console", "", String(error)));

const WAIT_MS = 20_000;
const TRIES = 4;
const PAUSE_MS_MAX = 10_000;

/** Asks for JSON. Raises Failed. */
export async function ask<T>(path: string): Promise<T> {
  const answer = await get(path);
  return (await answer.json()) as T;
}

let csrf = "";
let ended: () => void = () => undefined;

/** From now on requests that change something carry the session's token; `lost` is called when there is none any more. */
export function carry(token: string, lost: () => void): void {
  csrf = token;
  ended = lost;
}

/** Sends JSON, or nothing, to have something changed; undefined where the answer has no body. Raises Failed. */
export async function send<T>(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown): Promise<T> {
  const answer = await get(path, carrying(method, body));
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

function carrying(method: "POST" | "PUT" | "DELETE", body: unknown): RequestInit {
  const headers: Record<string, string> = { "Fallow-CSRF": csrf };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  return { method, headers, body: body === undefined ? null : JSON.stringify(body) };
}

/** An id for what is sent once. The same again changes nothing and answers the same. */
export const newId = (): string => hex(crypto.getRandomValues(new Uint8Array(16)));

/** Stores bytes under their SHA-256 and returns that. Raises Failed. */
export async function upload(data: Blob): Promise<string> {
  const name = hex(new Uint8Array(await crypto.subtle.digest("SHA-256", await data.arrayBuffer())));
  await get(`/v1/blobs/${name}`, { method: "PUT", headers: { "Fallow-CSRF": csrf }, body: data, signal: null });
  return name;
}

/** The beginning of a blob, at most `bytesMax` bytes of it. Raises Failed. */
export async function beginning(sha256: string, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  // Nothing of it stays in the browser's cache, where the next one who signs in could find it.
  const answer = await get(`/v1/blobs/${sha256}`, { cache: "no-store" });
  return taken(answer, bytesMax);
}

/** What an answer brings, piece by piece, until `signal` or its end. Raises Failed. */
export async function* following(path: string, signal: AbortSignal, how: RequestInit = {}): AsyncGenerator<Uint8Array> {
  const answer = await get(path, { ...how, signal });
  const reader = answer.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

export interface Told {
  name: string;
  data: unknown;
}

/** The server-sent events that come for a body, until `signal` or their end. Raises Failed. */
export async function* told(path: string, signal: AbortSignal, body: unknown): AsyncGenerator<Told> {
  const decoder = new TextDecoder();
  let waiting = "";
  for await (const piece of following(path, signal, carrying("POST", body))) {
    const blocks = (waiting + decoder.decode(piece, { stream: true })).split("\n\n");
    waiting = blocks.pop() ?? "";
    for (const block of blocks) {
      const [, name = "", data = ""] = /^event: (.*)\ndata: (.*)$/.exec(block) ?? [];
      if (name) yield { name, data: JSON.parse(data) as unknown };
    }
  }
}

/** At most `bytesMax` bytes of an answer. */
export async function taken(answer: Response, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  const reader = answer.body?.getReader();
  const kept = new Uint8Array(bytesMax);
  let size = 0;
  while (reader && size < bytesMax) {
    const { done, value } = await reader.read();
    if (done) break;
    const part = value.subarray(0, bytesMax - size);
    kept.set(part, size);
    size += part.length;
  }
  await reader?.cancel();
  return kept.slice(0, size);
}

/** Asks for a file of an epoch, at most `bytesMax` bytes of it. Raises Failed. */
export async function file(epoch: number, name: string, bytesMax: number): Promise<Uint8Array> {
  const answer = await get(`/v1/epochs/${epoch}/files/${name}`);
  const size = Number(answer.headers.get("Content-Length") ?? bytesMax + 1);
  if (size > bytesMax) {
    await answer.body?.cancel();
    throw new Failed("console.large", "", `${name}: ${size} bytes`);
  }
  return new Uint8Array(await answer.arrayBuffer());
}

async function get(path: string, how: RequestInit = {}): Promise<Response> {
  for (let tried = 1; ; tried += 1) {
    const answer = await reach(path, how);
    if (answer.ok) return answer;
    const pauseMs = 1000 * Number(answer.headers.get("Retry-After") ?? 1);
    // Nobody sits before a page for longer than this: he is told instead.
    if (answer.status !== 429 || tried === TRIES || !(pauseMs <= PAUSE_MS_MAX)) throw await failure(answer);
    await new Promise((go) => setTimeout(go, pauseMs));
  }
}

async function reach(path: string, how: RequestInit): Promise<Response> {
  try {
    return await fetch(path, { signal: AbortSignal.timeout(WAIT_MS), ...how });
  } catch {
    throw new Failed(how.signal?.aborted ? "stopped" : "offline", "");
  }
}

async function failure(answer: Response): Promise<Failed> {
  try {
    const said = (await answer.json()) as Schemas["ErrorView"];
    if (said.code === "auth.session" || said.code === "auth.missing") ended();
    return new Failed(said.code, said.message, said.hint, answer.status);
  } catch {
    return new Failed("http", `HTTP ${answer.status}`, "", answer.status);
  }
}
