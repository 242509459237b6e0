/** A list that comes in pages. */

/** All of it until a page is empty: a short one may have been cut. Stops at `max`; `whole` says whether that is all. */
export async function pages<T>(page: (last: T | undefined) => Promise<T[]>, max = Infinity): Promise<{ all: T[]; whole: boolean }> {
  const all: T[] = [];
  for (;;) {
    const found = await page(all[all.length - 1]);
    all.push(...found);
    if (!found.length) return { all, whole: true };
    if (all.length >= max) return { all, whole: false };
  }
}
