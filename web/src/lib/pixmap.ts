/** Portable pixmaps, which programs write with no library at all, and which browsers do not draw. */

/** Between its numbers is space, and what is written for people. */
const HEAD = /^P6(?:\s|#.*\n)+(\d{1,5})(?:\s|#.*\n)+(\d{1,5})(?:\s|#.*\n)+255\s/;
const HEAD_BYTES_MAX = 200;
const BITMAP_HEAD_BYTES = 54;

/** The same pixels as a bitmap, which browsers draw; undefined where this is no whole pixmap of eight bits a colour. */
export function drawable(data: Uint8Array<ArrayBuffer>): Blob | undefined {
  const head = HEAD.exec(String.fromCharCode(...data.subarray(0, HEAD_BYTES_MAX)));
  const [width, height] = [Number(head?.[1] ?? 0), Number(head?.[2] ?? 0)];
  const pixels = data.subarray(head?.[0].length ?? 0);
  if (!width || !height || pixels.length !== 3 * width * height) return undefined;
  const row = 4 * Math.ceil((3 * width) / 4); // each begins at a multiple of four bytes
  const made = new Uint8Array(BITMAP_HEAD_BYTES + row * height);
  const view = new DataView(made.buffer);
  made.set([0x42, 0x4d]);
  view.setUint32(2, made.length, true);
  view.setUint32(10, BITMAP_HEAD_BYTES, true);
  view.setUint32(14, BITMAP_HEAD_BYTES - 14, true);
  view.setInt32(18, width, true);
  view.setInt32(22, -height, true); // from the top to the bottom
  view.setUint16(26, 1, true);
  view.setUint16(28, 24, true);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const [from, to] = [3 * (y * width + x), BITMAP_HEAD_BYTES + y * row + 3 * x];
      made.set([pixels[from + 2] ?? 0, pixels[from + 1] ?? 0, pixels[from] ?? 0], to); // blue comes first
    }
  }
  return new Blob([made], { type: "image/bmp" });
}
