/** What accounts are owed on the chain, and how it is claimed: what the contract says counts. `fallow claim` has the same rules. */
import { amount, hex, same, unhex } from "../proof/bytes";
import { claimCall, claimsHash, relayedCall, type Claim } from "../proof/calls";
import { Distributor } from "../proof/rpc";
import { proves, type Leaf } from "../proof/tree";
import { proofs } from "../proof/verify";
import { ask, Failed, send, type EpochView, type Redirection } from "./api";
import type { Contracts } from "./chain";
import { request } from "./wallet";
import { words } from "./words";

/** How long what the network signs holds: a transaction may wait for a while. */
const SIGNED_S = 3600;

/** What an account was paid of an asset, what its leaf in the newest active root has beyond that, and what later epochs owe. */
export interface Due {
  what: "usage" | "incentive";
  claimed: bigint;
  claimable: bigint;
  pending: bigint;
}

export interface Dues {
  account: string;
  /** The epoch of the newest root that pays. */
  active: number | undefined;
  /** The latest epoch that is closed. */
  closed: number | undefined;
  each: Due[];
  /** Those that pay something now, each proven by the root that the contract has. */
  claims: Claim[];
}

/** Looks up what an account is owed, at the contract through the wallet. Raises Failed: `claim.proof` where a proof does not hold. */
export async function dues(account: string, contracts: Contracts): Promise<Dues> {
  const distributor = at(contracts);
  const active = await distributor.active(Math.floor(Date.now() / 1000));
  const [latest] = await ask<EpochView[]>("/v1/epochs?limit=1");
  const payable = active ? await proven(active, account) : [];
  const later = latest ? await proofs(latest.epoch, account) : [];
  const assets = { usage: contracts.settlement, incentive: contracts.token } as const;
  const each = await Promise.all(
    (["usage", "incentive"] as const).map(async (what): Promise<Due> => {
      const asset = unhex(assets[what]);
      const claimed = await distributor.claimed(unhex(account), asset);
      const now = owed(payable.map(({ leaf }) => leaf), asset);
      const then = owed(later.map(({ leaf }) => leaf), asset);
      const reached = now > claimed ? now : claimed;
      return { what, claimed, claimable: reached - claimed, pending: then > reached ? then - reached : 0n };
    }),
  );
  const paying = each.filter(({ claimable }) => claimable).map(({ what }) => unhex(assets[what]));
  const claims = payable.filter(({ leaf }) => paying.some((asset) => same(asset, leaf.asset)));
  return { account, active: active?.epoch, closed: latest?.epoch, each, claims };
}

/** A claim before it is signed: the call, and to whom it pays. */
export interface Prepared {
  call: Uint8Array;
  paidTo: string;
}

/**
 * Makes the call that claims. Where the account is not the wallet's own, the network signs if it keeps the account's key
 * that it is paid to whom its earnings go; an account that keeps its own key is paid itself. Raises Failed.
 */
export async function prepare({ account, claims }: Dues, wallet: string, contracts: Contracts): Promise<Prepared> {
  if (account === wallet) return { call: claimCall(claims), paidTo: account };
  const deadline_s = Math.floor(Date.now() / 1000) + SIGNED_S;
  const nonce = Number(await at(contracts).nonce(unhex(account)));
  try {
    const asked = { claims: hex(claimsHash(claims)), nonce, deadline_s };
    const { recipient, signature } = await send<Redirection>("POST", "/v1/account/redirections", asked);
    const signed = { account, recipient, deadline_s, signature: unhex(signature) };
    return { call: relayedCall(claims, signed), paidTo: recipient };
  } catch (error) {
    if (error instanceof Failed && error.code === "payout.own_key") return { call: claimCall(claims), paidTo: account };
    throw error;
  }
}

const at = (contracts: Contracts): Distributor => new Distributor(request, unhex(contracts.distributor));

function owed(leaves: readonly Leaf[], asset: Uint8Array): bigint {
  const mine = leaves.find((leaf) => same(leaf.asset, asset));
  return mine ? amount(mine.cumulative) : 0n;
}

/** An account's leaves in a root that the contract has. */
async function proven({ epoch, root }: { epoch: number; root: Uint8Array }, account: string): Promise<Claim[]> {
  const claims = (await proofs(epoch, account)).map((one) => ({ epoch, ...one }));
  const wrong = claims.find(({ leaf, way }) => !same(leaf.account, unhex(account)) || !proves(root, leaf, way));
  if (wrong) {
    throw new Failed("claim.proof", "", words().auditIt(String(epoch)));
  }
  return claims;
}
