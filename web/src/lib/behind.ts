/** The records behind a line of an epoch: settlements of its leases, from the very files that were signed for. */
import { decode } from "cborg";

import { hex } from "../proof/bytes";
import { frames } from "../proof/frames";
import { LINES_BYTES_MAX } from "../proof/lines";
import { check, manifest } from "../proof/statement";
import { file } from "./api";
import type { Row } from "./earned";

const NAME = "records/lease.settled";

/** What a record says of a lease since the one before: money in micro-US-dollars, of all classes of credits together. */
export interface Settled {
  /** The batch in the epoch, and its place there: as `fallow epoch explain` names it. */
  record: string;
  at: number;
  lease: string;
  income: bigint;
  fee: bigint;
  reserve: bigint;
  madeGood: bigint;
  final: boolean;
  ok: boolean;
  reason: string;
  cause: string;
}

type Moved = Partial<Record<"income" | "fee" | "reserve" | "made_good", number | bigint>>;
interface Body {
  vertical: string;
  node: Uint8Array;
  payee: Uint8Array;
  lease: Uint8Array;
  moved: Moved[];
  final: boolean;
  ok?: boolean;
  reason?: string;
  caused_by?: string;
}

/** None where the line has none; undefined where they are more than a browser should load. Raises Failed and Broken. */
export async function settled({ view, said, line }: Row): Promise<Settled[] | undefined> {
  const named = manifest(said, await file(view.epoch, "manifest", LINES_BYTES_MAX));
  const size = named.files.find(({ name }) => name === NAME)?.size ?? 0;
  if (!size) return [];
  if (size > LINES_BYTES_MAX) return undefined;
  const data = await file(view.epoch, NAME, LINES_BYTES_MAX);
  check(named, NAME, data);
  return (frames(data) as [number, number[], Uint8Array[]][]).flatMap(([batch, places, raws]) =>
    raws.flatMap((raw, number) => {
      const { at, body } = decode(raw) as { at: number; body: Body };
      const mine = body.vertical === line.vertical && hex(body.node) === line.node && `0x${hex(body.payee)}` === line.account;
      return mine ? [shown(`${batch}/${places[number] ?? ""}`, at, body)] : [];
    }),
  );
}

function shown(record: string, at: number, body: Body): Settled {
  const sum = (part: keyof Moved): bigint => body.moved.reduce((total, moved) => total + BigInt(moved[part] ?? 0), 0n);
  return {
    ...{ record, at, lease: hex(body.lease), income: sum("income"), fee: sum("fee"), reserve: sum("reserve"), madeGood: sum("made_good") },
    ...{ final: body.final, ok: body.ok ?? false, reason: body.reason ?? "", cause: body.caused_by ?? "" },
  };
}
