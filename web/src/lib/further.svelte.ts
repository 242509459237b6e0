/** A list whose first page is asked for again and again, and what is behind it when somebody wants more. */
import { failed, type Failed } from "./api";

export class Further<T> {
  ended = $state(false);
  trouble = $state.raw<Failed>();
  #rest = $state.raw<T[]>([]);
  readonly #behind: (last: T) => Promise<T[]>;
  readonly #name: (one: T) => string | number;
  readonly #page: number;

  /** `behind` asks for what comes after the last one; fewer than `page` of them are the last. */
  constructor(behind: (last: T) => Promise<T[]>, name: (one: T) => string | number, page: number) {
    this.#behind = behind;
    this.#name = name;
    this.#page = page;
  }

  /** Whether anybody has wanted more. */
  get begun(): boolean {
    return this.#rest.length > 0;
  }

  /** Asks for more than is shown. */
  async more(shown: readonly T[]): Promise<void> {
    const last = shown[shown.length - 1];
    if (last === undefined) return;
    try {
      const found = await this.#behind(last);
      this.#rest = [...shown, ...found];
      this.ended = found.length < this.#page;
      this.trouble = undefined;
    } catch (error) {
      this.trouble = failed(error);
    }
  }

  /** All that is known: what moves into the first page and out of it is there once, as it was heard of last. */
  joined(newest: readonly T[]): T[] {
    const known = new Set(newest.map(this.#name));
    return [...newest, ...this.#rest.filter((one) => !known.has(this.#name(one)))];
  }
}
