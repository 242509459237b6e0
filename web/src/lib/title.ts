/** What a page is called among a browser's tabs and in its history: many of one kind are told apart. */
import { brief } from "./format";
import { words } from "./words";

export function nameOf([kind = "", one = ""]: readonly string[]): string {
  const w = words();
  const operate: Record<string, string> = { "": w.operate, refused: w.opRefused, rules: w.opRules, "what-if": w.opWhatIf, doors: w.opDoors, log: w.opLog };
  const named: Record<string, string | undefined> = {
    nodes: one ? `${w.node} ${brief(one)}` : w.nodes,
    accounts: `${w.account} ${brief(one)}`,
    networks: one ? (w.verticalNames[one] ?? one) : w.networks,
    epochs: one ? w.epoch(one) : w.epochs,
    jobs: one === "new" ? w.newJob : one ? `${w.job} ${brief(one)}` : w.jobs,
    storage: one || w.storage,
    operate: operate[one],
    map: w.map,
    sector: w.sector,
    provider: w.provider,
    account: w.account,
    bills: w.bills,
    earnings: w.earningsTitle,
    governance: w.governance,
    "sign-in": w.signIn,
  };
  return kind ? ((Object.hasOwn(named, kind) && named[kind]) || w.notFoundTitle) : "";
}
