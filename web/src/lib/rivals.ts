/** What the same costs elsewhere. */
import type { Rival, Vertical } from "./api";
import type { StorageBill } from "./bill";
import { percent } from "./format";
import type { Words } from "../words/en";

/** A price elsewhere beside the one here. */
export type Priced = Pick<Rival, "name" | "kind" | "here_microusd" | "there_microusd" | "as_of" | "source" | "note">;

/** The one who asks least of those whose machines are not taken away again. */
export const cheapest = ({ rivals }: Vertical): Rival | undefined => sorted(rivals).find(({ kind }) => kind !== "spot");

export const sorted = <T extends Priced>(rivals: readonly T[]): T[] => [...rivals].sort((one, other) => one.there_microusd - other.there_microusd);

/** What a bill would come to elsewhere. */
export const ofBill = ({ cost_microusd: here_microusd, elsewhere }: StorageBill): Priced[] =>
  elsewhere.map(({ cost_microusd: there_microusd, ...one }) => ({ ...one, here_microusd, there_microusd }));

/** By how much it is cheaper, or dearer, here, in percent of what it costs there. */
export const saving = ({ here_microusd: here, there_microusd: there }: Priced, w: Words): string =>
  here <= there ? w.cheaperHere(percent(there - here, there)) : w.dearerHere(percent(here - there, there));
