/** What a vertical took in and what was minted for it, epoch by epoch, and nodes day by day, as a chart draws it. */
import type { Market, Vertical } from "./api";
import { bar, type Column } from "./chart";
import { dollars, number, tokens, utcDay, when } from "./format";
import type { Words } from "../words/en";

type Epoch = Vertical["epochs"][number];

/** Whether all that was paid is play money: shown as such, and never added to what is not. */
export const isPlay = (epochs: readonly Epoch[]): boolean => !epochs.some(({ sums }) => sums?.usage_microusd) && epochs.some(({ sums }) => sums?.test_microusd);

export function usageTrend(epochs: readonly Epoch[], w: Words): Column[] {
  const play = isPlay(epochs);
  const taken = ({ sums }: Epoch): number | undefined => (sums ? (play ? sums.test_microusd : sums.usage_microusd) ?? 0 : undefined);
  return columns(epochs, w, taken, (value) => `${dollars(value)}${play ? ` ${w.test}` : ""}`, (value) => bar("usage", value, play));
}

export const incentiveTrend = (epochs: readonly Epoch[], w: Words): Column[] =>
  columns(epochs, w, ({ sums }) => (sums ? Number(sums.incentive ?? "0") : undefined), (value) => `${tokens(BigInt(value))} ${w.tokens}`, (value) => bar("incentive", value));

const DAY_MS = 86_400_000;

/** The most nodes of each day from the first that is known on; a day of which nothing is known is a gap. */
export function nodesTrend({ nodes_by_day: days = [] }: Market): Column[] {
  const known = new Map(days.map(({ at, nodes }) => [at, nodes]));
  const [first, last] = [days[0]?.at ?? 0, days.at(-1)?.at ?? -1];
  return Array.from({ length: Math.floor((last - first) / DAY_MS) + 1 }, (_, place) => first + place * DAY_MS).map((at) => {
    const nodes = known.get(at);
    return nodes === undefined ? { key: at, told: "", bars: [] } : { key: at, told: `${utcDay(at)} · ${number(nodes)}`, bars: [bar("share", nodes)] };
  });
}

/** Epochs come with the latest first, and stand with the latest at the right. */
function columns(epochs: readonly Epoch[], w: Words, of: (epoch: Epoch) => number | undefined, text: (value: number) => string, piece: (value: number) => Column["bars"][number]): Column[] {
  return [...epochs].reverse().map((epoch) => {
    const value = of(epoch);
    return { key: epoch.epoch, told: value === undefined ? "" : `${w.epoch(String(epoch.epoch))} · ${when(epoch.until_ms)} · ${text(value)}`, bars: value === undefined ? [] : [piece(value)] };
  });
}
