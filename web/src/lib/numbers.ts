/** What processes tell of themselves, looked up by its name at `/metrics`. */
import type { Numbered } from "./api";

/** All that is told under a name. */
export function told(numbers: readonly Numbered[], name: string): Numbered[] {
  return numbers.filter((one) => one.name === name);
}

/** The most of it among all processes, for what each sees whole; undefined where nobody tells it. */
export function most(numbers: readonly Numbered[], name: string): number | undefined {
  const found = told(numbers, name);
  return found.length ? Math.max(...found.map((one) => one.value)) : undefined;
}

/** The sums by the values of a label. */
export function by(numbers: readonly Numbered[], name: string, label: string): [string, number][] {
  const sums = new Map<string, number>();
  for (const one of told(numbers, name)) {
    const key = one.labels[label] ?? "";
    sums.set(key, (sums.get(key) ?? 0) + one.value);
  }
  return [...sums].sort(([, a], [, b]) => b - a);
}
