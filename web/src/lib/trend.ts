/** What a vertical took in and what was minted for it, epoch by epoch, as a chart draws it. */
import type { Vertical } from "./api";
import { bar, type Column } from "./chart";
import { dollars, tokens, when } from "./format";
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

/** Epochs come with the latest first, and stand with the latest at the right. */
function columns(epochs: readonly Epoch[], w: Words, of: (epoch: Epoch) => number | undefined, text: (value: number) => string, piece: (value: number) => Column["bars"][number]): Column[] {
  return [...epochs].reverse().map((epoch) => {
    const value = of(epoch);
    return { key: epoch.epoch, told: value === undefined ? "" : `${w.epoch(String(epoch.epoch))} · ${when(epoch.until_ms)} · ${text(value)}`, bars: value === undefined ? [] : [piece(value)] };
  });
}
