/** What every account is owed, and the tree over it that the contract checks claims by: OpenZeppelin's StandardMerkleTree. */
import { compare, isNothing, joined, keccak, same, word } from "./bytes";

const LEAF_BYTES = 96;

export interface Leaf {
  account: Uint8Array;
  asset: Uint8Array;
  cumulative: Uint8Array;
  raw: Uint8Array;
}

/** Reads the file `leaves`; its hash tells whether it is the right one. */
export function leaves(data: Uint8Array): Leaf[] {
  const found: Leaf[] = [];
  for (let at = 0; at + LEAF_BYTES <= data.length; at += LEAF_BYTES) {
    const raw = data.subarray(at, at + LEAF_BYTES);
    found.push({ account: raw.subarray(12, 32), asset: raw.subarray(44, 64), cumulative: raw.subarray(64), raw });
  }
  return found;
}

/** What a gateway's proof is about, as the file would have it. */
export function leafOf(account: Uint8Array, asset: Uint8Array, cumulative: bigint): Leaf {
  const raw = joined(word(account), word(asset), word(cumulative));
  return { account, asset, cumulative: raw.subarray(64), raw };
}

export const leafHash = (raw: Uint8Array): Uint8Array => keccak(keccak(raw));

const parent = (one: Uint8Array, other: Uint8Array): Uint8Array =>
  keccak(compare(one, other) < 0 ? joined(one, other) : joined(other, one));

/** The tree's array: the root first, the leaves from the end. */
export function build(all: readonly Leaf[]): Uint8Array[] {
  const hashes = all.map((leaf) => leafHash(leaf.raw)).sort((one, other) => compare(other, one));
  const tree: Uint8Array[] = [...Array<Uint8Array>(Math.max(0, hashes.length - 1)), ...hashes];
  for (let at = hashes.length - 2; at >= 0; at -= 1) {
    tree[at] = parent(tree[2 * at + 1] as Uint8Array, tree[2 * at + 2] as Uint8Array);
  }
  return tree;
}

/** The siblings on a leaf's way to the root, lowest first; undefined where the tree does not hold it. */
export function proof(tree: readonly Uint8Array[], leaf: Leaf): Uint8Array[] | undefined {
  const mine = leafHash(leaf.raw);
  let at = tree.findIndex((node, place) => 2 * place + 1 >= tree.length && same(node, mine));
  if (at < 0) return undefined;
  const way: Uint8Array[] = [];
  for (; at > 0; at = (at - 1) >> 1) way.push(tree[at % 2 ? at + 1 : at - 1] as Uint8Array);
  return way;
}

/** Whether a proof leads from a leaf to a root, as the contract checks it. */
export function proves(root: Uint8Array, leaf: Leaf, way: readonly Uint8Array[]): boolean {
  return !isNothing(root) && same(way.reduce(parent, leafHash(leaf.raw)), root);
}
