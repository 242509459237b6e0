/** The network's S3 gateway: bytes go to it and come from it directly. The control API signs each request, for minutes (ADR 62). */
import { Failed, send, taken, type Links, type ToSign } from "./api";
import { elements, request, text, type Sent } from "./s3-request";

export interface Bucket {
  name: string;
  made: number;
}
export interface Entry {
  key: string;
  size: number;
  made: number;
}
export interface Page {
  folders: string[];
  entries: Entry[];
  /** What the next page begins behind; "" where there is none. */
  next: string;
}
type Wanted = Pick<ToSign, "path"> & Partial<ToSign>;

const PAGE = 200;
const at = (bucket: string, key = ""): string => `/${bucket}${key && `/${key}`}`;

/** Addresses of requests, signed for so long. Raises Failed. */
export async function signed(requests: Wanted[], valid_s = 300, shared = false): Promise<string[]> {
  return (await send<Links>("POST", "/v1/account/links", { role: "s3", requests, valid_s, shared })).urls;
}

/** Sends one request. Raises Failed. */
export async function ask(wanted: Wanted, sent: Sent = {}): Promise<XMLHttpRequest> {
  const [url = ""] = await signed([wanted], 900);
  return request(wanted.method ?? "GET", url, sent);
}

/** A browser takes "." and ".." for ways through folders: what is called so cannot be asked for from here. */
export const reachable = (key: string): boolean => !key.split("/").some((part) => part === "." || part === "..");

export async function buckets(): Promise<Bucket[]> {
  const answer = await ask({ path: "/" });
  return elements(answer, "Bucket").map((one) => ({ name: text(one, "Name"), made: Date.parse(text(one, "CreationDate")) }));
}

export async function makeBucket(name: string): Promise<void> {
  await ask({ method: "PUT", path: at(name) });
}

export async function dropBucket(name: string): Promise<void> {
  await ask({ method: "DELETE", path: at(name) });
}

/** What lies in a folder of a bucket, behind a name. */
export async function list(bucket: string, folder: string, after = ""): Promise<Page> {
  const query: Record<string, string> = { "list-type": "2", delimiter: "/", "encoding-type": "url", "max-keys": String(PAGE) };
  if (folder) query["prefix"] = folder;
  if (after) query["continuation-token"] = after;
  const answer = await ask({ path: at(bucket), query });
  return {
    folders: elements(answer, "CommonPrefixes").map((one) => decodeURIComponent(text(one, "Prefix"))),
    entries: elements(answer, "Contents").map((one) => ({
      key: decodeURIComponent(text(one, "Key")),
      size: Number(text(one, "Size")),
      made: Date.parse(text(one, "LastModified")),
    })),
    next: text(answer.responseXML?.documentElement, "NextContinuationToken"),
  };
}

export async function remove(bucket: string, key: string): Promise<void> {
  await ask({ method: "DELETE", path: at(bucket, key) });
}

/** The beginning of an object, at most `bytesMax` bytes of it. Raises Failed. */
export async function beginning(bucket: string, key: string, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  const [url = ""] = await signed([{ path: at(bucket, key) }]);
  const answer = await fetch(url, { cache: "no-store" }).catch(() => undefined);
  if (!answer) throw new Failed("storage.unreachable", "", new URL(url).origin);
  if (!answer.ok) throw new Failed("storage.object", `HTTP ${answer.status}`, "", answer.status);
  return taken(answer, bytesMax);
}

/** An address by which an object is saved as a file, and never shown as a page of the network's host. */
export async function link(bucket: string, key: string, valid_s: number, shared: boolean): Promise<string> {
  const name = encodeURIComponent(key.split("/").pop() || "object").replace(/['()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16)}`);
  const query = { "response-content-disposition": `attachment; filename*=UTF-8''${name}` };
  return (await signed([{ path: at(bucket, key), query }], valid_s, shared))[0] ?? "";
}
