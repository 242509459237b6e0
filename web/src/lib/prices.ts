/** What machines that are here ask for a core and hour, and how much of the network is sold. */
import { ask, type Market, type NodeView, type Vertical } from "./api";
import { quartiles, type Quartiles } from "./classes";
import { done } from "./economics";

const NODES = 1000;

export interface Asked {
  /** Micro-US-dollars; undefined where nobody asks a price. */
  asks: Quartiles | undefined;
  machines: number;
  /** Thousandths of cores. */
  sold: number;
  offered: number;
}

/** The share of the cores which are offered now that closed epochs of the last 30 days sold, and of how long they are; undefined where they sold nothing. */
export async function soldLately(offered: number): Promise<{ share: number; ms: number; whole: boolean } | undefined> {
  const all = (await ask<Vertical[]>("/v1/networks")).map(done);
  const charged = all.reduce((sum, one) => sum + one.charged, 0);
  const [longest] = all.sort((one, other) => other.ms - one.ms);
  if (!charged || !offered || !longest?.ms) return undefined;
  const { ms, whole } = longest;
  return { share: Math.min(1, (1e6 * charged) / (offered * ms)), ms, whole };
}

/** Raises Failed. */
export async function askedPrices(): Promise<Asked> {
  const [market, nodes] = await Promise.all([ask<Market>("/v1/market"), ask<NodeView[]>(`/v1/nodes?limit=${NODES}`)]);
  const prices = nodes.flatMap(({ terms, state }) => (terms && ["busy", "idle"].includes(state) ? [BigInt(terms.price_microusd_per_core_hour)] : []));
  return {
    asks: prices.length ? quartiles(prices) : undefined,
    machines: prices.length,
    sold: market.sold.cpu_milli ?? 0,
    offered: market.offered.cpu_milli ?? 0,
  };
}
