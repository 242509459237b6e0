/** Calls of the network's contracts, as the ABI encodes them: see src/fallow/domain/epochs/distributor.py. */
import { joined, keccak, text, unhex, word } from "./bytes";
import type { Leaf } from "./tree";

/** What an account is owed by the root of an epoch, with the way from its leaf to the root. */
export interface Claim {
  epoch: number;
  leaf: Leaf;
  way: readonly Uint8Array[];
}

const CLAIMS = "(uint64,address,address,uint256,bytes32[])[]";
const WORD = 32;
const CLAIM_WORDS = 5;
const SIGNATURE_BYTES = 65;

/** A call of a function whose arguments are words. */
export function call(signature: string, ...words: Uint8Array[]): Uint8Array {
  return joined(keccak(text(signature)).subarray(0, 4), ...words);
}

/** Have claims paid to their accounts, by whoever sends it. */
export function claimCall(claims: readonly Claim[]): Uint8Array {
  return call(`claim(${CLAIMS})`, word(WORD), encoded(claims));
}

/** What stands for claims in what their account signs. */
export function claimsHash(claims: readonly Claim[]): Uint8Array {
  return keccak(joined(word(WORD), encoded(claims)));
}

/** What an account has signed: its claims are paid to a recipient, until a deadline (seconds since 1970). */
export interface Redirected {
  account: string;
  recipient: string;
  deadline_s: number;
  signature: Uint8Array;
}

/** Have claims paid as their account has signed, by whoever sends it. */
export function relayedCall(claims: readonly Claim[], signed: Redirected): Uint8Array {
  const listed = encoded(claims);
  const head = 5 * WORD;
  const padded = new Uint8Array(3 * WORD);
  padded.set(signed.signature);
  return call(
    `claimTo(${CLAIMS},address,address,uint256,bytes)`,
    word(head),
    word(unhex(signed.account)),
    word(unhex(signed.recipient)),
    word(signed.deadline_s),
    word(head + listed.length),
    listed,
    word(SIGNATURE_BYTES),
    padded,
  );
}

/** An array of the contract's struct `Claim`: their number, where each begins, and each. */
function encoded(claims: readonly Claim[]): Uint8Array {
  const each = claims.map(({ epoch, leaf, way }) =>
    joined(word(epoch), leaf.raw, word(CLAIM_WORDS * WORD), word(way.length), ...way),
  );
  let at = WORD * each.length;
  const places = each.map((one) => {
    const place = word(at);
    at += one.length;
    return place;
  });
  return joined(word(each.length), ...places, ...each);
}
