/** Bytes, and the hashes that everything here is made of. */
import { keccak_256 } from "@noble/hashes/sha3.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, concatBytes, hexToBytes } from "@noble/hashes/utils.js";

export { bytesToHex as hex, concatBytes as joined, keccak_256 as keccak, sha256 };

const WORD = 32;

export const text = (words: string): Uint8Array => new TextEncoder().encode(words);

export function unhex(digits: string): Uint8Array {
  return hexToBytes(digits.replace(/^0x/, ""));
}

/** A number, an address or a hash as the ABI encodes it. */
export function word(value: bigint | number | Uint8Array): Uint8Array {
  const bytes = typeof value === "object" ? value : hexToBytes(value.toString(16).padStart(2 * WORD, "0"));
  const padded = new Uint8Array(WORD);
  padded.set(bytes, WORD - bytes.length);
  return padded;
}

/** The number that bytes hold, most significant first. */
export function amount(bytes: Uint8Array): bigint {
  return bytes.length ? BigInt(`0x${bytesToHex(bytes)}`) : 0n;
}

export function compare(one: Uint8Array, other: Uint8Array): number {
  for (let at = 0; at < Math.min(one.length, other.length); at += 1) {
    const difference = (one[at] ?? 0) - (other[at] ?? 0);
    if (difference) return difference;
  }
  return one.length - other.length;
}

export const same = (one: Uint8Array, other: Uint8Array): boolean => compare(one, other) === 0;
export const isNothing = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
