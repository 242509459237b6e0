/** Tables to download. */

export type Cell = string | number | bigint | boolean | null;
export interface Table {
  /** Names of columns, with their units. */
  head: readonly string[];
  rows: readonly (readonly Cell[])[];
}

/**
 * A spreadsheet takes no cell for a formula, whoever wrote what is in it: nor a part of one behind what separates cells
 * elsewhere, such as where numbers have commas. Signs of double width count as the plain ones do.
 */
const plain = (cell: Cell): string =>
  typeof cell === "string" ? cell.replace(/[;\t\r\n](?=[=+\-@＝＋－＠])/g, "$&'").replace(/^(?=[=+\-@＝＋－＠\t\r\n])/, "'") : String(cell ?? "");

export function csv(rows: readonly (readonly Cell[])[]): string {
  const quoted = (cell: Cell): string => (/[",\r\n]/.test(String(cell)) ? `"${plain(cell).replaceAll('"', '""')}"` : plain(cell));
  return rows.map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
}

/** A list of objects. Integers that a program would round are strings. */
export function json({ head, rows }: Table): string {
  const safe = (cell: Cell): Cell => (typeof cell === "bigint" ? String(cell) : cell);
  const objects = rows.map((row) => Object.fromEntries(head.map((name, at) => [name, safe(row[at] ?? null)])));
  return `${JSON.stringify(objects, null, 1)}\n`;
}

/** Has the browser save a text under a name. */
export function save(name: string, text: string, type = "text/csv"): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
