/** What machines that are here ask for a core and hour, and how much of the network is sold. */
import { ask, type Market, type NodeView } from "./api";
import { quartiles, type Quartiles } from "./classes";

const NODES = 1000;

export interface Asked {
  /** Micro-US-dollars; undefined where nobody asks a price. */
  asks: Quartiles | undefined;
  machines: number;
  /** Thousandths of cores. */
  sold: number;
  offered: number;
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
