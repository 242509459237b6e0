/** Tables to download. */

/** A spreadsheet takes no cell for a formula, whoever wrote what is in it. */
const plain = (cell: string | number): string => (typeof cell === "string" && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell));

export function csv(rows: readonly (readonly (string | number)[])[]): string {
  const quoted = (cell: string | number): string => (/[",\r\n]/.test(String(cell)) ? `"${plain(cell).replaceAll('"', '""')}"` : plain(cell));
  return rows.map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
}

/** Has the browser save a text under a name. */
export function save(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
