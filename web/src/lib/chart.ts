/** What a chart draws. */

/** From one value to another, in the colour of what it is. */
export interface Piece {
  kind: string;
  from: number;
  to: number;
  /** Drawn as a frame: play money, or what was and is no more. */
  outline?: boolean;
}

export interface Column {
  key: number | string;
  /** What, when and how much exactly, for who points at it. */
  told: string;
  /** Beside one another; each of pieces on top of one another. */
  bars: readonly (readonly Piece[])[];
}

/** A bar from zero. */
export const bar = (kind: string, value: number, outline = false): Piece[] => [{ kind, from: 0, to: value, outline }];

/** Pieces on top of one another. */
export function stacked(parts: readonly (readonly [kind: string, value: number])[]): Piece[] {
  let at = 0;
  return parts.map(([kind, value]) => ({ kind, from: at, to: (at += value) }));
}

/** The most that a chart shows. */
export const most = (columns: readonly Column[]): number => Math.max(0, ...columns.flatMap(({ bars }) => bars.flatMap((pieces) => pieces.map(({ to }) => to))));
