/** Closed epochs with their signed statements. */
import { hex, isNothing } from "../proof/bytes";
import { Broken } from "../proof/statement";
import { statement, type Sealed } from "../proof/verify";
import { ask, Failed, failed, type EpochView, type Network } from "./api";

export interface Closed {
  view: EpochView;
  /** Undefined where it could not be had, or its signature does not hold: `trouble` says so. */
  sealed?: Sealed;
  trouble?: Failed;
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

/** Whether a gateway's view says what was signed: pages show it as checked. */
function agrees(view: EpochView, { said, hash }: Sealed): boolean {
  const named = (bytes: Uint8Array): string => (isNothing(bytes) ? "" : hex(bytes));
  const signed = [hash, said.manifest, said.previous, said.root].map(named).concat(`${said.from_ms} ${said.until_ms}`);
  const shown = [view.statement, view.manifest, view.previous, view.root, `${view.from_ms} ${view.until_ms}`];
  return signed.every((one, at) => one === shown[at]);
}

export async function closed(view: EpochView, network: Network): Promise<Closed> {
  if (view.damaged) return { view, trouble: new Failed("archive.unreadable", view.damaged, "", 200) };
  try {
    const sealed = await once(view, network);
    if (!agrees(view, sealed)) throw new Broken("epoch.shown");
    return { view, sealed };
  } catch (error) {
    return { view, trouble: failed(error) };
  }
}

/** The latest epochs, the latest first. */
export async function latest(network: Network, limit: number, before?: number): Promise<Closed[]> {
  const query = before === undefined ? "" : `&before=${before}`;
  const views = await ask<EpochView[]>(`/v1/epochs?limit=${limit}${query}`);
  return Promise.all(views.map((view) => closed(view, network)));
}
