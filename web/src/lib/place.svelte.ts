/** Which page is shown: the address decides. */

/** A slash at its end, as some type it, is no other page. */
const here = (): string => location.pathname.replace(/\/+$/, "") || "/";

let path = $state(here());
let query = $state.raw(new URLSearchParams(location.search));

function look(): void {
  path = here();
  query = new URLSearchParams(location.search);
}

const RETURN_MS = 10_000;

const MOVES = ["wheel", "touchstart", "keydown", "pointerdown"];

/** Who goes back finds a page where he left it, once it is long enough again: what is on it comes by and by. He may move on meanwhile. */
function comeBack(event: PopStateEvent): void {
  look();
  const { y = 0 } = (event.state ?? {}) as { y?: number };
  const until = performance.now() + RETURN_MS;
  const moved = new AbortController();
  for (const kind of MOVES) addEventListener(kind, () => moved.abort(), { passive: true, signal: moved.signal });
  const again = (): void => {
    if (moved.signal.aborted) return;
    scrollTo(0, y);
    if (scrollY < y && performance.now() < until) requestAnimationFrame(again);
    else moved.abort();
  };
  again();
}

/** Goes on to another page, and remembers how far this one was read. */
function go(to: string | URL): void {
  history.replaceState({ y: scrollY }, "");
  history.pushState(null, "", to);
  look();
  scrollTo(0, 0);
  document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
}

addEventListener("popstate", comeBack);

/** Follows links to pages of the console without loading everything anew. */
export function follow(event: MouseEvent): void {
  const link = (event.target as Element | null)?.closest("a");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.defaultPrevented;
  if (!link || !plain || link.origin !== location.origin || link.target || link.hasAttribute("download")) return;
  if (link.pathname.startsWith("/v1/") || (link.hash && link.pathname === location.pathname)) return;
  event.preventDefault();
  if (link.href === location.href) return;
  go(link.href);
}

/** Opens a page of the console. Only a path of its own is followed, whoever wrote it. */
export function open(path: string): void {
  const url = URL.canParse(path, location.origin) ? new URL(path, location.origin) : undefined;
  go(url?.origin === location.origin ? url : "/");
}

export const place = {
  get path() {
    return path;
  },
  /** With what stands behind the "?". */
  get whole() {
    return query.size ? `${path}?${query}` : path;
  },
  get query() {
    return query;
  },
};
