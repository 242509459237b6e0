/** From what somebody fills in to an order. What it reads is stored first. */
import { Failed, newId, upload, type Enquiry } from "./api";
import { zip } from "./zip";

export const KINDS = ["python", "wasm", "container"] as const;
export const TRUST = ["new", "proven", "vouched", "own"] as const;
export type Kind = (typeof KINDS)[number];

export interface Wanted {
  kind: Kind;
  script: string;
  python: string;
  program: File | undefined;
  image: string;
  args: string;
  files: File[];
  each: boolean;
  label: string;
  cores: number;
  memory_mib: number;
  minutes: number;
  gpus: number;
  gpu_model: string;
  vram_gib: number;
  trust: (typeof TRUST)[number];
  copies: number;
  most_usd: number | null;
}

export type Order = Omit<Enquiry, "secrets">;

const ENTRY = "script.py";
const NAME_MAX = 100;

/** Whether a script names packages that it needs (PEP 723): only commands can bundle those. */
export function needsPackages(script: string): boolean {
  const block = /^# \/\/\/ script\s*$([\s\S]*?)^# \/\/\/\s*$/m.exec(script)?.[1] ?? "";
  const listed = /^#\s*dependencies\s*=\s*\[([\s\S]*?)\]/m.exec(block)?.[1] ?? "";
  return /["']/.test(listed);
}

/** Stores program and inputs, and makes the order. Raises Failed. */
export async function order(wanted: Wanted): Promise<Order> {
  const args = wanted.args.split("\n").map((line) => line.replace(/\r$/, "")).filter(Boolean);
  const stored = await Promise.all(wanted.files.map((file) => upload(file)));
  const names = inputNames(wanted.files.map(({ name }) => name));
  const inputs = wanted.each ? {} : Object.fromEntries(names.map((name, at) => [name, stored[at]]));
  return {
    id: newId(),
    vertical: "compute",
    work: { ...(await program(wanted)), args, inputs },
    items: wanted.each ? stored : [],
    requirements: requirements(wanted),
    max_price_microusd_per_hour: 10 ** 12,
    budget_microusd: wanted.most_usd === null ? null : Math.round(wanted.most_usd * 1e6),
    time_limit_s: Math.round(wanted.minutes * 60),
    retries: 0,
    replicas: wanted.copies,
    label: wanted.label,
    until_stopped: false,
    spot: false,
  };
}

/** Graphics processors are handed into containers alone. */
function requirements(wanted: Wanted): NonNullable<Order["requirements"]> {
  const { trust, cores, memory_mib } = wanted;
  const gpus = wanted.kind === "container" ? wanted.gpus : 0;
  return {
    cpu_milli: Math.round(cores * 1000),
    memory_mib,
    disk_mib: 64,
    gpus,
    gpu_model: gpus ? wanted.gpu_model.trim() : "",
    vram_mib: gpus ? Math.round(wanted.vram_gib * 1024) : 0,
    trust_min: trust,
    near: "",
    within_km: 0,
  };
}

async function program(wanted: Wanted): Promise<Record<string, unknown>> {
  if (wanted.kind === "container") return { kind: "container", image: wanted.image.trim() };
  if (wanted.kind === "wasm") {
    if (!wanted.program) throw new Failed("console.program", "");
    return { kind: "wasm", program: await upload(wanted.program) };
  }
  const bundle = zip({ [ENTRY]: new TextEncoder().encode(wanted.script.replace(/\r\n/g, "\n")) });
  return { kind: "python", bundle: await upload(bundle), entry: ENTRY, python: wanted.python };
}

/** What inputs are called below /in: letters, digits, `_`, `.` and `-`, and each otherwise than the others. */
export function inputNames(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    const plain = name.replace(/[^A-Za-z0-9_.-]/g, "_").replace(/^[^A-Za-z0-9_]+/, "_").slice(0, NAME_MAX - 4) || "_";
    let found = plain;
    for (let more = 2; taken.has(found); more += 1) found = `${more}_${plain}`;
    taken.add(found);
    return found;
  });
}
