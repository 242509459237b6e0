/** A ZIP archive of a few files, as they are: what a node unpacks at /bundle. */

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

export function crc32(data: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of data) sum = (sum >>> 8) ^ (TABLE[(sum ^ byte) & 255] ?? 0);
  return (sum ^ 0xffffffff) >>> 0;
}

const VERSION = 20;
const UNIX = 3 << 8;
const FILE_MODE = 0o100644 * 0x10000;
const JANUARY_1980 = 0x0021;

/** The same files give the same bytes. Names are ASCII. */
export function zip(files: Readonly<Record<string, Uint8Array>>): Blob {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const index: Uint8Array<ArrayBuffer>[] = [];
  let at = 0;
  const names = Object.keys(files).sort();
  for (const path of names) {
    const data = Uint8Array.from(files[path] ?? []);
    const name = Uint8Array.from(new TextEncoder().encode(path));
    const common = [u16(VERSION), u16(0), u16(0), u16(0), u16(JANUARY_1980), u32(crc32(data)), u32(data.length), u32(data.length), u16(name.length), u16(0)];
    const local = [u32(0x04034b50), ...common, name, data];
    index.push(u32(0x02014b50), u16(VERSION | UNIX), ...common, u16(0), u16(0), u16(0), u32(FILE_MODE), u32(at), name);
    parts.push(...local);
    at += size(local);
  }
  const end = [u32(0x06054b50), u16(0), u16(0), u16(names.length), u16(names.length), u32(size(index)), u32(at), u16(0)];
  return new Blob([...parts, ...index, ...end]);
}

const size = (parts: Uint8Array[]): number => parts.reduce((sum, part) => sum + part.length, 0);
const u16 = (value: number): Uint8Array<ArrayBuffer> => Uint8Array.of(value & 255, (value >>> 8) & 255);
const u32 = (value: number): Uint8Array<ArrayBuffer> => Uint8Array.of(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, (value >>> 24) & 255);
