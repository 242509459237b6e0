/** An epoch's statement as the network signed it: see src/fallow/domain/epochs/statement.py. */
import { ed25519 } from "@noble/curves/ed25519.js";
import { decode } from "cborg";

import { Failed } from "../lib/api";
import { joined, same, sha256, text, unhex } from "./bytes";

export interface NamedFile {
  name: string;
  size: number;
  sha256: Uint8Array;
  count: number;
}

export interface Policy {
  name: string;
  version: number;
  digest: Uint8Array;
  parameters: Record<string, unknown>;
}

export interface Statement {
  net: string;
  epoch: number;
  from_ms: number;
  until_ms: number;
  manifest: Uint8Array;
  previous: Uint8Array;
  files: NamedFile[];
  policies: Policy[];
  totals: Record<string, Uint8Array>;
  root: Uint8Array;
  leaf_count: number;
  revision: number;
  settlement_total: Uint8Array;
  token_total: Uint8Array;
  settlement: Uint8Array;
  token: Uint8Array;
  chain_id: number;
  contract: Uint8Array;
  validators: Uint8Array[];
  seed: Uint8Array;
}

/** What came is not what was signed. Its code says how; words for it are in `ownTrouble`. */
export class Broken extends Failed {
  constructor(code: string) {
    super(code, "");
  }
}

const TAG = text("fallow/statement/1\0");
const NONE_32 = new Uint8Array(32);
const NONE_20 = new Uint8Array(20);

const DEFAULTS = {
  previous: NONE_32,
  files: [],
  policies: [],
  totals: {},
  root: NONE_32,
  leaf_count: 0,
  revision: 0,
  settlement_total: NONE_32,
  token_total: NONE_32,
  settlement: NONE_20,
  token: NONE_20,
  chain_id: 0,
  contract: NONE_20,
  validators: [],
  seed: new Uint8Array(0),
};

/** A network, by its name and the key (hex) that signs for it. */
export interface Signer {
  net: string;
  public_key: string;
}

/** Reads a statement's file. Raises Broken unless the network's key signed it, for this network and epoch. */
export function open(sealed: Uint8Array, network: Signer, epoch: number): Statement {
  const [body, signature] = decode(sealed) as [Uint8Array, Uint8Array];
  if (!ed25519.verify(signature, joined(TAG, body), unhex(network.public_key))) {
    throw new Broken("epoch.not_signed");
  }
  const said: Statement = { ...DEFAULTS, ...(decode(body) as Statement) };
  if (said.net !== network.net || said.epoch !== epoch) {
    throw new Broken("epoch.of_another");
  }
  return said;
}

/** Raises Broken unless the statement, or the manifest that it names, names this very file. */
export function check(said: { files: NamedFile[] }, name: string, data: Uint8Array): void {
  const named = said.files.find((file) => file.name === name);
  if (named?.size !== data.length || !same(named.sha256, sha256(data))) throw new Broken("epoch.other_file");
}

/** What came in during an epoch, file by file. Raises Broken unless these are the bytes that the statement names. */
export function manifest(said: Statement, data: Uint8Array): { files: NamedFile[] } {
  if (!same(said.manifest, sha256(data))) throw new Broken("epoch.other_file");
  return decode(data) as { files: NamedFile[] };
}
