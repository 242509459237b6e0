/** What an account's buckets used and cost, as the network's side of storage adds it up. */
import { send } from "./api";

export interface BucketLine {
  bucket: string;
  id: number;
  objects: number;
  bytes: number;
  stored_byte_hours: number;
  payload_byte_hours: number;
  egress_bytes: number;
  cost_microusd: number;
}
export interface StorageBill {
  buckets: BucketLine[];
  cost_microusd: number;
  elsewhere: { name: string; kind: string; cost_microusd: number; as_of: string; source: string; note: string }[];
}

const DAY_MS = 86_400_000;

/** Of so many days (UTC), today among them. Raises Failed. */
export function storageBill(days: number): Promise<StorageBill> {
  const to_day = Math.floor(Date.now() / DAY_MS);
  return send<StorageBill>("POST", "/v1/verticals/storage/bill", { account: "", from_day: to_day - days + 1, to_day });
}
