/** What the console says of a code: why something ended, waits or was refused. */
import { failed } from "./api";
import { look } from "./look.svelte";
import { words } from "./words";

let errorsJa = $state.raw<Record<string, string>>({});

/** Loads the sentences of the network's errors. In English the network says them itself. */
export async function learnJapanese(): Promise<void> {
  try {
    errorsJa = (await import("../words/errors.ja")).errorsJa;
  } catch {
    // Then what the network says is shown as it says it, in English.
  }
}

/** The console's own sentence for a code; undefined where it has none. */
export function why(code: string): string | undefined {
  const w = words();
  return w.whyEnded[code] ?? w.walletTrouble[code] ?? w.ownTrouble[code] ?? (look.tongue === "ja" ? errorsJa[code] : undefined);
}

/** What was thrown, in one sentence, for where there is no room for more. */
export function inShort(error: unknown): string {
  const { code, message } = failed(error);
  return code === "offline" ? words().offlineTitle : (why(code) ?? (message || words().troubleTitle));
}
