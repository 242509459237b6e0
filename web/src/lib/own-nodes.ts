/** A provider's machines: all pages of them, and what keeps work away. */
import { ask, type OwnNode } from "./api";
import type { Words } from "../words/en";
import { when } from "./format";
import { pages } from "./pages";

const PAGE = 100;
const NODES_MAX = 2000;

/** At most so many; `whole` says whether that is all. Raises Failed. */
export async function ownNodes(): Promise<{ nodes: OwnNode[]; whole: boolean }> {
  const { all, whole } = await pages((last?: OwnNode) => ask<OwnNode[]>(`/v1/account/nodes?limit=${PAGE}&after=${last?.node ?? ""}`), NODES_MAX);
  return { nodes: all, whole };
}

/** Its state, as the market sees it. */
export const stateOf = ({ offer, banned_reason }: OwnNode): string => (banned_reason ? "banned" : (offer?.state ?? "unknown"));

/** What its running leases pay an hour, in micro-US-dollars, before the network's fee. */
export const paysNow = ({ leases }: OwnNode): number =>
  leases.reduce((sum, lease) => sum + (lease.started_at === null ? 0 : lease.price_microusd_per_hour), 0);

/** Why it works on nothing, as far as the network knows; none where it works. */
export function whyIdle(node: OwnNode, w: Words, now: number): string[] {
  if (node.leases.length) return [];
  const found = network(node, w, now);
  return found.length ? found : [w.idleNoWork];
}

function network({ offer, banned_reason, suspended_until, left_alone_until }: OwnNode, w: Words, now: number): string[] {
  if (banned_reason) return [w.idleBanned(banned_reason)];
  if (!offer) return [w.idleNoOffer];
  if (offer.state === "offline") return [offer.last_seen_at ? w.idleOffline(when(offer.last_seen_at)) : w.idleNoOffer];
  const found = offer.state === "paused" ? [w.idlePaused] : [];
  if (suspended_until > now) found.push(w.idleSuspended(when(suspended_until)));
  if (left_alone_until > now) found.push(w.idleLeftAlone(when(left_alone_until)));
  return found;
}
