/** Closed epochs with their signed statements. */
import { statement, type Sealed } from "../proof/verify";
import { ask, type EpochView, type Network } from "./api";

export interface Closed {
  view: EpochView;
  /** Undefined where it could not be had, or its signature does not hold: `why` says so. */
  sealed?: Sealed;
  why: string;
}

const kept = new Map<string, Promise<Sealed>>();

/** A statement never changes: it is asked for once. */
function once(view: EpochView, network: Network): Promise<Sealed> {
  const key = `${view.epoch} ${view.statement}`;
  const known = kept.get(key) ?? statement(view.epoch, network);
  kept.set(key, known);
  known.catch(() => kept.delete(key));
  return known;
}

export async function closed(view: EpochView, network: Network): Promise<Closed> {
  if (view.damaged) return { view, why: view.damaged };
  try {
    return { view, sealed: await once(view, network), why: "" };
  } catch (error) {
    return { view, why: (error as Error).message };
  }
}

/** The latest epochs, the latest first. */
export async function latest(network: Network, limit: number, before?: number): Promise<Closed[]> {
  const query = before === undefined ? "" : `&before=${before}`;
  const views = await ask<EpochView[]>(`/v1/epochs?limit=${limit}${query}`);
  return Promise.all(views.map((view) => closed(view, network)));
}
