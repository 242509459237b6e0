/** Something that is asked for again and again, with how it stands. */
import { failed, type Failed } from "./api";

/** How soon what could not be had is asked for again: a slow moment must not leave a page without its content. */
const AGAIN_MS = 10_000;

export class Live<T> {
  value = $state.raw<T>();
  trouble = $state.raw<Failed>();
  /** When the value was got last, in milliseconds since 1970. */
  at = $state(0);

  /** Whether it is asked for again without the reader's doing. */
  readonly again: boolean;
  /** Whether an answer is on its way. */
  asking = false;
  readonly #load: () => Promise<T>;
  #round = 0;

  constructor(load: () => Promise<T>, again = false) {
    this.#load = load;
    this.again = again;
  }

  /** Asks now. What is there stays until an answer is. */
  async refresh(): Promise<void> {
    this.#round += 1;
    const mine = this.#round;
    this.asking = true;
    try {
      const value = await this.#load();
      if (mine !== this.#round) return;
      this.value = value;
      this.trouble = undefined;
      this.at = Date.now();
    } catch (error) {
      if (mine !== this.#round) return;
      this.trouble = failed(error);
    } finally {
      if (mine === this.#round) this.asking = false;
    }
  }
}

/** Keeps it fresh for as long as the component is there; what was not to be had is asked for again in any case. A page that nobody sees asks nothing, and none asks again before it was answered. */
export function live<T>(load: () => Promise<T>, everyMs = 0): Live<T> {
  const made = new Live(load, true);
  $effect(() => {
    void made.refresh();
    const look = () => void (document.hidden || made.asking || made.refresh());
    const lookAgain = () => void (passing(made.trouble) && look());
    const timers = [setInterval(lookAgain, AGAIN_MS), ...(everyMs ? [setInterval(look, everyMs)] : [])];
    const seen = everyMs ? look : lookAgain;
    document.addEventListener("visibilitychange", seen);
    return () => {
      timers.forEach(clearInterval);
      document.removeEventListener("visibilitychange", seen);
    };
  });
  return made;
}

/** Whether the same question may be answered in a moment. */
const passing = (trouble: Failed | undefined): boolean => !!trouble && (trouble.code === "offline" || trouble.status >= 500);
