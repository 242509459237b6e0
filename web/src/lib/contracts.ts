/** What the contracts say of themselves. */
import { dollars, lasting, tokens } from "./format";
import type { Words } from "../words/en";

const SECONDS = "s";
const TOKENS = "token_units";
const MONEY = "microusd";

/** The units of the contracts' numbers; what has none is a count, or an address. */
const UNITS = new Map([
  ...["activationDelay", "unbondingDelay", "appealDelay", "getMinDelay"].map((name) => [name, SECONDS] as const),
  ...["epochMintMax", "mintedMax", "mintedTotal", "burnedTotal", "totalSupply"].map((name) => [name, TOKENS] as const),
  ...["deposited", "settlementPaid"].map((name) => [name, MONEY] as const),
]);

export const unitOf = (parameter: string): string => UNITS.get(parameter) ?? "";

/** A parameter's value as people speak of it. */
export function spoken(parameter: string, value: string, w: Words): string {
  const unit = unitOf(parameter);
  if (unit === SECONDS) return lasting(1000 * Number(value));
  if (unit === TOKENS) return `${tokens(BigInt(value))} ${w.tokens}`;
  return unit === MONEY ? dollars(BigInt(value)) : value;
}
