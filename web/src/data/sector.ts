/** What others publish of their networks and of the field: claims of theirs, each with its source and date. */
import rows from "./sector.json";

export interface Told {
  en: string;
  ja: string;
}

export interface Source {
  name: string;
  /** Where to read it, or null where no address is known. */
  url: string | null;
  /** Whether the figure stands on that very page; else it is the site of whoever published it. */
  page: boolean;
}

/** So many US dollars in so many months by so many units. */
export interface Per {
  unit: Told;
  usd: number;
  months: number;
  units: number;
  how: Told;
}

export interface Claim {
  figure: Told;
  date: string;
  source: Source;
  per?: Per;
}

export interface Row extends Claim {
  id: string;
  kind: string;
  subject: Told;
  /** What other sources say instead. */
  disputed: Claim[];
}

export const sector: readonly Row[] = rows;

/** US dollars per unit and month. */
export const monthly = ({ usd, months, units }: Per): number => usd / months / units;
