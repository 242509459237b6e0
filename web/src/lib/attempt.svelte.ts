/** What a reader has done by a click, and why it was not. */
import { failed, type Failed } from "./api";

export class Attempt {
  trouble = $state.raw<Failed>();
  busy = $state(false);

  /** Does it. The trouble of the time before is gone, so that the same one again is heard again. */
  async run(what: () => Promise<unknown>): Promise<void> {
    this.busy = true;
    this.trouble = undefined;
    try {
      await what();
    } catch (error) {
      this.trouble = failed(error);
    } finally {
      this.busy = false;
    }
  }
}
