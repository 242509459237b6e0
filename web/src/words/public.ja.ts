import type { publicEn } from "./public.en";

export const publicJa: typeof publicEn = {
  live: "ライブ",
  liveNow: "発生と同時に表示",
  liveNot: "未接続",
  livePaused: "一時停止中",
  livePause: "一時停止",
  liveGoOn: "再開",
  liveNothing: "このページのゲートウェイが起動してから、まだ何も起きていません。",
  liveText: "ネットワークの各役割が自ら伝える内容です。署名された記録は、エポックが閉じるとアーカイブに入ります。買い手、ジョブ、場所は含まれません。",
  liveMore: (count) => `この間に、ほか ${count} 件ありました。`,
  leaseFailed: "結果なしでリースを終了",
  happened: {
    "node.joined": "参加",
    "lease.began": "リースを開始",
    "lease.ended": "結果を出してリースを終了",
    "check.passed": "検査に合格",
    "check.failed": "検査に不合格",
    "check.missed": "検査に応答なし",
    "epoch.closed": "閉鎖：",
  },
};
