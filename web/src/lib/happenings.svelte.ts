/** What happens on the network, told while somebody looks on. */
import type { Happened, Happening } from "./api";

const KEPT = 50;
const AGAIN_MS = 15_000;

export class Happenings {
  /** The latest first. */
  all = $state.raw<Happening[]>([]);
  /** What happened besides since the page looks on, and was not told one by one. */
  more = $state(0);
  open = $state(false);
  paused = $state(false);

  /** Takes in what was told; the `first` time all of it is new. */
  take(told: Happened, first: boolean): void {
    const shown = [...(told.shown ?? [])].reverse();
    this.all = (first ? shown : [...shown, ...this.all]).slice(0, KEPT);
    this.more = first ? 0 : this.more + (told.more ?? 0);
  }
}

/** Looks on for as long as the component is there, seen by somebody, and not paused. */
export function happenings(): Happenings {
  const seen = new Happenings();
  $effect(() => {
    if (seen.paused) return;
    let source: EventSource | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = () => {
      clearTimeout(timer);
      source?.close();
      source = undefined;
      seen.open = false;
    };
    const start = () => {
      stop();
      if (document.hidden) return;
      const mine = new EventSource("/v1/happenings/events");
      let first = true;
      source = mine;
      mine.onopen = () => {
        first = true;
        seen.open = true;
      };
      mine.addEventListener("happened", ({ data }: MessageEvent<string>) => {
        seen.take(JSON.parse(data) as Happened, first);
        first = false;
      });
      mine.onerror = () => {
        seen.open = false;
        // A refusal ends it for good: then it is tried again from here.
        if (mine.readyState === EventSource.CLOSED) timer = setTimeout(start, AGAIN_MS);
      };
    };
    start();
    document.addEventListener("visibilitychange", start);
    return () => {
      stop();
      document.removeEventListener("visibilitychange", start);
    };
  });
  return seen;
}
