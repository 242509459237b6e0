/** What an item's node left: a stranger's document, of which nothing is believed before it was looked at. */
import { beginning, Failed } from "./api";
import { drawable } from "./pixmap";

export interface Output {
  name: string;
  sha256: string;
  size: number;
}

export interface Outcome {
  exit_code: number;
  reason: string;
  stdout: Output;
  stderr: Output;
  outputs: Output[];
}

const DOCUMENT_BYTES_MAX = 4 << 20;

/** Reads the result document of an item. Raises Failed. */
export async function outcome(sha256: string): Promise<Outcome> {
  const data = await beginning(sha256, DOCUMENT_BYTES_MAX);
  try {
    const found = JSON.parse(new TextDecoder().decode(data)) as Record<string, unknown>;
    const outputs = found["outputs"];
    if (!Array.isArray(outputs)) throw new TypeError("outputs");
    return {
      exit_code: Number(found["exit_code"]),
      reason: String(found["reason"] ?? ""),
      stdout: output(found["stdout"]),
      stderr: output(found["stderr"]),
      outputs: outputs.map(output),
    };
  } catch {
    throw new Failed("result.unreadable", "");
  }
}

function output(value: unknown): Output {
  const { name, sha256, size } = value as Record<string, unknown>;
  if (typeof name !== "string" || typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) throw new TypeError("output");
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) throw new TypeError("size");
  return { name, sha256, size };
}

export type Shown = { kind: "text"; text: string } | { kind: "table"; rows: string[][]; more: boolean } | { kind: "picture"; data: Blob } | { kind: "other" };

const ROWS = 200;
/** Of all rows together: a browser draws no more of them in a moment. */
const CELLS = 5000;
const CHARACTERS = 100_000;
const PICTURES: readonly [string, readonly (number | undefined)[]][] = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
  ["image/webp", [0x52, 0x49, 0x46, 0x46, undefined, undefined, undefined, undefined, 0x57, 0x45, 0x42, 0x50]],
];

/** How a file is shown in place: by what is in it. Only pictures that are nothing but pixels count as such. */
export function shown(name: string, data: Uint8Array<ArrayBuffer>): Shown {
  const picture = PICTURES.find(([, start]) => start.every((byte, at) => byte === undefined || data[at] === byte));
  if (picture) return { kind: "picture", data: new Blob([data], { type: picture[0] }) };
  const drawn = drawable(data);
  if (drawn) return { kind: "picture", data: drawn };
  const text = read(data);
  if (text === undefined) return { kind: "other" };
  if (/\.(csv|tsv)$/i.test(name)) return { kind: "table", ...table(text, /\.tsv$/i.test(name) ? "\t" : ",") };
  return { kind: "text", text };
}

/** What it says where it is text; its end may have been cut off within a letter. */
function read(data: Uint8Array<ArrayBuffer>): string | undefined {
  if (data.subarray(0, 8192).includes(0)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data, { stream: true });
  } catch {
    return undefined;
  }
}

/** The beginning of a table (RFC 4180), and whether there is `more` of it. */
export function table(text: string, between: string): { rows: string[][]; more: boolean } {
  const found: string[][] = [];
  const end = Math.min(text.length, CHARACTERS);
  let row: string[] = [];
  let [cell, cells, quoted, at] = ["", 0, false, 0];
  for (; at < end && found.length < ROWS && cells < CELLS; at += 1) {
    const sign = text[at] ?? "";
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[at + 1] === '"') {
        cell += sign;
        at += 1;
      } else quoted = false;
    } else if (sign === '"' && !cell) quoted = true;
    else if (sign === between) {
      row.push(cell);
      cell = "";
      cells += 1;
    } else if (sign === "\n") {
      found.push([...row, cell.replace(/\r$/, "")]);
      row = [];
      cell = "";
      cells += 1;
    } else cell += sign;
  }
  if (cell || row.length) found.push([...row, cell]);
  return { rows: found, more: at < text.length };
}
