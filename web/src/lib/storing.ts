/** Files on their way into a bucket: small ones at once, large ones in parts, each of which is tried again when its line breaks. */
import { Failed } from "./api";
import { ask } from "./s3";
import { elements, text } from "./s3-request";

const PART_BYTES = 16 << 20;
const PARTS_MAX = 10_000;
const TRIES = 4;
/** What a line to the S3 gateway, or to the network's, which signs, breaks with. */
const BROKEN = ["storage.unreachable", "offline"];

export interface Going {
  progress: (bytes: number) => void;
  signal: AbortSignal;
}

/** Stores a file under a key. What is broken off leaves nothing. Raises Failed. */
export async function store(bucket: string, key: string, file: Blob, going: Going): Promise<void> {
  const path = `/${bucket}/${key}`;
  const type = file.type || "application/octet-stream";
  if (file.size <= PART_BYTES) {
    await again(going.signal, () => ask({ method: "PUT", path }, { ...going, body: file, type }));
    return;
  }
  const begun = await ask({ method: "POST", path, query: { uploads: "" } }, { type, signal: going.signal });
  const uploadId = text(begun.responseXML?.documentElement, "UploadId");
  try {
    const etags = await parts(path, uploadId, file, going);
    const said = etags.map((etag, at) => `<Part><PartNumber>${at + 1}</PartNumber><ETag>${escaped(etag)}</ETag></Part>`).join("");
    const body = `<CompleteMultipartUpload>${said}</CompleteMultipartUpload>`;
    await again(going.signal, () => complete(path, uploadId, body)); // done again it answers the same
  } catch (error) {
    await ask({ method: "DELETE", path, query: { uploadId } }).catch(() => undefined); // else it is given up in a week
    throw error;
  }
}

async function complete(path: string, uploadId: string, body: string): Promise<void> {
  const ended = await ask({ method: "POST", path, query: { uploadId } }, { body, type: "application/xml" });
  // A gateway that begins to answer before it has put the parts together can only say so in its answer.
  const [fault] = elements(ended, "Error");
  if (fault) throw new Failed(`s3.${text(fault, "Code")}`, text(fault, "Message"), "", ended.status);
}

async function parts(path: string, uploadId: string, file: Blob, { progress, signal }: Going): Promise<string[]> {
  const size = Math.max(PART_BYTES, Math.ceil(file.size / PARTS_MAX));
  const etags: string[] = [];
  for (let start = 0; start < file.size; start += size) {
    const query = { uploadId, partNumber: String(etags.length + 1) };
    const sent = { body: file.slice(start, start + size), progress: (bytes: number) => progress(start + bytes), signal };
    const answer = await again(signal, () => ask({ method: "PUT", path, query }, sent));
    etags.push(answer.getResponseHeader("ETag") ?? "");
  }
  return etags;
}

/** Tries a few times what a broken line or a busy gateway may have kept from being done. */
async function again<T>(signal: AbortSignal, what: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried += 1) {
    try {
      return await what();
    } catch (error) {
      const passing = error instanceof Failed && (BROKEN.includes(error.code) || error.status >= 500);
      if (!passing || tried === TRIES || signal.aborted) throw error;
      await new Promise((go) => setTimeout(go, 500 * 2 ** tried));
    }
  }
}

const escaped = (etag: string): string => etag.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
