/** Signatures of validators under a root: EIP-712, as the distributor contract checks them. */
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { decode } from "cborg";

import { amount, hex, joined, keccak, text, word } from "./bytes";
import type { Statement } from "./statement";

const DOMAIN = keccak(text("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"));
const ROOT = keccak(
  text("Root(uint64 epoch,uint64 revision,bytes32 root,uint96 settlementTotal,uint96 tokenTotal,bytes32 archive)"),
);
const NAME = keccak(text("Fallow Distributor"));
const VERSION = keccak(text("1"));
const HALF_ORDER = secp256k1.Point.Fn.ORDER / 2n;

export function quorum(validators: number): number {
  return Math.floor((validators + Math.floor((validators - 1) / 3)) / 2) + 1;
}

/** What validators sign; `archive` is the SHA-256 of the statement's file. */
export function digest(said: Statement, archive: Uint8Array): Uint8Array {
  const domain = keccak(joined(DOMAIN, NAME, VERSION, word(said.chain_id), word(said.contract)));
  const struct = keccak(
    joined(
      ROOT,
      word(said.epoch),
      word(said.revision),
      said.root,
      said.settlement_total,
      said.token_total,
      archive,
    ),
  );
  return keccak(joined(new Uint8Array([0x19, 0x01]), domain, struct));
}

/** Whether a vote's file holds this validator's signature under the digest. */
export function signs(vote: Uint8Array, validator: Uint8Array, about: Uint8Array): boolean {
  try {
    const { signature } = decode(vote) as { signature: Uint8Array };
    if (amount(signature.subarray(32, 64)) > HALF_ORDER) return false;
    const recovered = joined(new Uint8Array([(signature[64] ?? 0) - 27]), signature.subarray(0, 64));
    const key = secp256k1.Point.fromBytes(secp256k1.recoverPublicKey(recovered, about, { prehash: false }));
    return hex(keccak(key.toBytes(false).subarray(1)).subarray(12)) === hex(validator);
  } catch {
    return false;
  }
}
