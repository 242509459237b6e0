/** Checks in the reader's own browser that an account is owed what an epoch's root says. */
import { ask, failed as failedBy, Failed, file, type Proof } from "../lib/api";
import { amount, hex, same, sha256, unhex } from "./bytes";
import { at, Distributor } from "./rpc";
import { Broken, check, open, type Signer, type Statement } from "./statement";
import { build, leafOf, leaves, proof, proves, type Leaf } from "./tree";
import { digest, quorum, signs } from "./votes";

export const LEAVES_BYTES_MAX = 8 << 20;
const STATEMENT_BYTES_MAX = 1 << 20;
const VOTE_BYTES_MAX = 4096;

export type Trust = "self" | "validators" | "chain";

export interface Step {
  what: "statement" | "leaves" | "root" | "votes" | "chain";
  ok: boolean;
  /** What was needed for it could not be had: it neither holds nor fails. */
  unchecked?: boolean;
  /** Why it could not be had, or what came is not right. */
  trouble?: Failed;
  /** Which sentence says why it does not hold, where that is not the step's own. */
  fault?: "proof" | "noProof";
  /** Numbers and names for the step's sentence. */
  told: Record<string, string | number>;
}

export interface Owed {
  asset: string;
  amount: bigint;
}

export interface Verified {
  ok: boolean;
  /** Something could not be had, so that nothing is known either way. */
  unchecked?: boolean;
  trust: Trust;
  steps: Step[];
  owed: Owed[];
}

export interface Sealed {
  said: Statement;
  /** SHA-256 of its file. */
  hash: Uint8Array;
}

/** The statement of an epoch, whose signature holds. Raises Failed or Broken. */
export async function statement(epoch: number, network: Signer): Promise<Sealed> {
  const sealed = await file(epoch, "statement", STATEMENT_BYTES_MAX);
  return { said: open(sealed, network, epoch), hash: sha256(sealed) };
}

export interface Asked {
  epoch: number;
  account: string;
  network: Signer;
  operator: string;
  rpc: string;
}

/** Runs all checks and tells each as it is done; a check that does not hold is the last. */
export async function verify(asked: Asked, tell: (step: Step) => void): Promise<Verified> {
  const steps: Step[] = [];
  const done = (step: Step): boolean => {
    steps.push(step);
    tell(step);
    return step.ok;
  };
  const failed: Verified = { ok: false, trust: "self", steps, owed: [] };
  let what: Step["what"] = "statement";
  try {
    const { said, hash } = await statement(asked.epoch, asked.network);
    done({ what, ok: true, told: { key: asked.network.public_key, net: said.net } });
    what = "leaves";
    const account = asked.account.toLowerCase();
    const { ways, count, given } = await waysOf(said, account);
    done({ what, ok: true, told: given ? { given: "yes" } : { count } });
    what = "root";
    if (given && !ways.length) {
      done({ what, ok: false, unchecked: true, fault: "noProof", told: {} });
      return { ...failed, unchecked: true };
    }
    const proven = ways.length > 0 && ways.every(({ leaf, way }) => proves(said.root, leaf, way));
    const hashes = Math.max(...ways.map(({ way }) => way.length));
    const fault: Pick<Step, "fault"> = given ? { fault: "proof" } : {};
    if (!done({ what, ok: proven, ...fault, told: { root: hex(said.root), hashes } })) return failed;
    const owed = ways.map(({ leaf }) => ({ asset: `0x${hex(leaf.asset)}`, amount: amount(leaf.cumulative) }));
    what = "votes";
    const voted = await votes(said, hash, asked.operator);
    if (voted) done(voted.step);
    let trust: Trust = voted?.independent ? "validators" : "self";
    if (asked.rpc) {
      what = "chain";
      if (!done(await chain(said, asked.rpc))) return { ...failed, owed };
      trust = "chain";
    }
    return { ok: steps.every((step) => step.ok), trust, steps, owed };
  } catch (error) {
    const unchecked = error instanceof Failed && !(error instanceof Broken);
    done({ what, ok: false, unchecked, trouble: failedBy(error), told: {} });
    return { ...failed, unchecked };
  }
}

export interface Way {
  leaf: Leaf;
  way: Uint8Array[];
}

interface Ways {
  ways: Way[];
  /** How many leaves were read. */
  count: number;
  /** These are the gateway's proofs: that there are no others they do not show. */
  given: boolean;
}

/**
 * An account's leaves with their ways to the root: from the file of all leaves, which also shows that there are no
 * others, or from the gateway's proofs where a browser should not load that many. Raises Failed or Broken.
 */
async function waysOf(said: Statement, account: string): Promise<Ways> {
  const named = said.files.find((one) => one.name === "leaves");
  if (!named) return { ways: [], count: 0, given: false };
  if (named.size > LEAVES_BYTES_MAX) return { ways: await proofs(said.epoch, account), count: 0, given: true };
  const data = await file(said.epoch, "leaves", LEAVES_BYTES_MAX);
  check(said, "leaves", data);
  const all = leaves(data);
  const mine = all.filter((leaf) => same(leaf.account, unhex(account)));
  const tree = mine.length ? build(all) : [];
  const ways = mine.map((leaf) => ({ leaf, way: proof(tree, leaf) ?? [] }));
  return { ways, count: all.length, given: false };
}

/** The same as the gateway gives them, not checked. Raises Failed. */
export async function proofs(epoch: number, account: string): Promise<Way[]> {
  const found = await ask<Proof[]>(`/v1/epochs/${epoch}/proofs/${account}`);
  return found.map((one) => ({
    leaf: leafOf(unhex(account), unhex(one.asset), BigInt(one.cumulative)),
    way: one.proof.map(unhex),
  }));
}

async function votes(said: Statement, hash: Uint8Array, operator: string) {
  const validators = said.validators;
  if (!validators.length) return undefined;
  const about = digest(said, hash);
  // One who is listed twice has one vote.
  const each = [...new Set(validators.map(hex))].map(unhex);
  const held = await Promise.all(each.map((validator) => voted(said.epoch, validator, about)));
  const signed = held.filter(Boolean).length;
  const needed = quorum(validators.length);
  const alone = validators.length === 1 && `0x${hex(validators[0] as Uint8Array)}` === operator.toLowerCase();
  const step: Step = { what: "votes", ok: signed >= needed, told: { signed, of: validators.length, needed } };
  return { step, independent: step.ok && !alone };
}

async function voted(epoch: number, validator: Uint8Array, about: Uint8Array): Promise<boolean> {
  try {
    return signs(await file(epoch, `votes/0x${hex(validator)}`, VOTE_BYTES_MAX), validator, about);
  } catch (error) {
    if (error instanceof Failed && error.status === 404) return false;
    throw error;
  }
}

async function chain(said: Statement, url: string): Promise<Step> {
  const distributor = new Distributor(at(url), said.contract);
  const id = await distributor.chainId();
  if (id !== said.chain_id) return { what: "chain", ok: false, told: { chain: id, expected: said.chain_id } };
  const { root } = await distributor.root(said.epoch);
  const told = { chain: id, contract: `0x${hex(said.contract)}`, root: hex(root) };
  return { what: "chain", ok: same(root, said.root), told };
}
