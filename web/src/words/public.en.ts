/** Sentences of the public explorer: what happens, networks, the search, who governs. */
export const publicEn = {
  live: "Live",
  liveNow: "as it happens",
  liveNot: "not connected",
  livePaused: "paused",
  livePause: "Pause",
  liveGoOn: "Go on",
  liveNothing: "Nothing has happened since this page's gateway was started.",
  liveText: "The network's roles tell this themselves; what they have signed of it is in the epoch's archive once that is closed. It names no buyer, no job and no place.",
  liveMore: (count: string) => `${count} more happened meanwhile.`,
  leaseFailed: "ended a lease without a result",
  happened: {
    "node.joined": "joined",
    "lease.began": "began a lease",
    "lease.ended": "ended a lease with its result",
    "check.passed": "passed a check",
    "check.failed": "failed a check",
    "check.missed": "did not answer a check",
    "epoch.closed": "Closed:",
  } as Record<string, string>,
};
