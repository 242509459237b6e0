/** A transaction from the wallet's question to its block, as a page shows it. */
import { mined } from "./chain";
import { send, type Call } from "./wallet";

export type Stage = "waits" | "asked" | "sent" | "done" | "refused";

export class Sending {
  stage = $state<Stage>("waits");
  /** Its hash, once it is sent. */
  hash = $state("");

  /** Has it signed and sent. Raises Failed. */
  async send(call: Call): Promise<void> {
    this.stage = "asked";
    try {
      this.hash = await send(call);
      this.stage = "sent";
    } finally {
      if (!this.hash) this.stage = "waits";
    }
  }

  /** Waits for its block, and says whether the contract did what it was asked. Raises Failed. */
  async mined(signal: AbortSignal): Promise<boolean> {
    this.stage = (await mined(this.hash, signal)) ? "done" : "refused";
    return this.stage === "done";
  }
}
