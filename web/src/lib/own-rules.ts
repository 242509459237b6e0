/** The rules of one machine as a form has them, and what its own file bounds. */
import { ask, send, type OwnRules, type Rules } from "./api";

export const AWAY_MINUTES_MAX = 120;
export const HOT_C_MIN = 30;
export const HOT_C_MAX = 105;

/** In a form a slider at its end is no rule; hours are parted by semicolons; an empty price is none. */
export interface Form {
  cores: number;
  memory: number;
  away: number;
  others: number;
  hot: number;
  hours: string;
  battery: boolean;
  metered: boolean;
  price: number | null;
  gpuPrice: number | null;
}

const path = (node: string): string => `/v1/account/nodes/${node}/rules`;

/** Raises Failed. */
export const ownRules = (node: string): Promise<OwnRules> => ask<OwnRules>(path(node));

/** Raises Failed. The same `id` again is asked once. */
export const askRules = (node: string, id: string, rules: Rules): Promise<OwnRules> => send<OwnRules>("POST", path(node), { id, rules });

export const filled = (rules: Partial<Rules>): Form => ({
  cores: rules.cpu_percent ?? 100,
  memory: rules.memory_percent ?? 100,
  away: rules.away_minutes ?? 0,
  others: rules.others_cpu_percent ?? 100,
  hot: rules.temperature_c ?? HOT_C_MAX,
  hours: (rules.hours ?? []).join("; "),
  battery: rules.on_battery ?? false,
  metered: rules.on_metered ?? false,
  price: rules.price_usd_per_core_hour ?? null,
  gpuPrice: rules.price_usd_per_gpu_hour ?? null,
});

/** What a form asks for; what it does not show stays as it was asked before. */
export const asked = (form: Form, before: Rules): Rules => ({
  ...before,
  cpu_percent: form.cores,
  memory_percent: form.memory,
  away_minutes: form.away || null,
  others_cpu_percent: form.others < 100 ? form.others : null,
  temperature_c: form.hot < HOT_C_MAX ? form.hot : null,
  hours: form.hours
    .split(";")
    .map((text) => text.trim())
    .filter(Boolean),
  on_battery: form.battery,
  on_metered: form.metered,
  price_usd_per_core_hour: form.price,
  price_usd_per_gpu_hour: form.gpuPrice,
});
