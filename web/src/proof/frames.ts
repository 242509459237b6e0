/** Files of an epoch that are made of frames: pieces of CBOR, each behind four bytes of length. */
import { decode } from "cborg";

const LENGTH_BYTES = 4;

export function frames(data: Uint8Array): unknown[] {
  const found: unknown[] = [];
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = 0; at < data.length; ) {
    const end = at + LENGTH_BYTES + view.getUint32(at);
    found.push(decode(data.subarray(at + LENGTH_BYTES, end)));
    at = end;
  }
  return found;
}
