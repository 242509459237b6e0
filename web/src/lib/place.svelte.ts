/** Which page is shown: the address decides. */

/** A slash at its end, as some type it, is no other page. */
const here = (): string => location.pathname.replace(/\/+$/, "") || "/";

let path = $state(here());
let query = $state.raw(new URLSearchParams(location.search));

function look(): void {
  path = here();
  query = new URLSearchParams(location.search);
}

addEventListener("popstate", look);

/** Follows links to pages of the console without loading everything anew. */
export function follow(event: MouseEvent): void {
  const link = (event.target as Element | null)?.closest("a");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.defaultPrevented;
  if (!link || !plain || link.origin !== location.origin || link.target || link.hasAttribute("download")) return;
  if (link.pathname.startsWith("/v1/") || (link.hash && link.pathname === location.pathname)) return;
  event.preventDefault();
  if (link.href === location.href) return;
  history.pushState(null, "", link.href);
  look();
  scrollTo(0, 0);
  document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
}

/** Opens a page of the console. Only a path of its own is followed, whoever wrote it. */
export function open(path: string): void {
  const url = URL.canParse(path, location.origin) ? new URL(path, location.origin) : undefined;
  history.pushState(null, "", url?.origin === location.origin ? url : "/");
  look();
  scrollTo(0, 0);
  document.querySelector<HTMLElement>("main")?.focus({ preventScroll: true });
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
