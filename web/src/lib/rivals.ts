/** What the same costs elsewhere. */
import type { Rival, Vertical } from "./api";
import { percent } from "./format";
import type { Words } from "../words/en";

/** The one who asks least of those whose machines are not taken away again. */
export const cheapest = ({ rivals }: Vertical): Rival | undefined => sorted(rivals).find(({ kind }) => kind !== "spot");

export const sorted = (rivals: readonly Rival[]): Rival[] => [...rivals].sort((one, other) => one.there_microusd - other.there_microusd);

/** By how much it is cheaper, or dearer, here, in percent of what it costs there. */
export const saving = ({ here_microusd: here, there_microusd: there }: Rival, w: Words): string =>
  here <= there ? w.cheaperHere(percent(there - here, there)) : w.dearerHere(percent(here - there, there));
