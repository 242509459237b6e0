/** The same sentences in Japanese. */
import type { alertsEn } from "./alerts.en";

export const alertsJa: typeof alertsEn = {
  alerts: "損失になる前に確認してください",
  alertsNow: "お知らせ",
  noAlerts: "確認が必要なことはありません。",
  alertsTo: "通知先",
  alertsToText: "始まったときと終わったときに通知します。対象は機器、収入の支払先、ジョブ、クレジットです。同意のないアドレスには確認以外何も送りません。",
  email: "メール",
  webhook: "Webhook",
  noMailServer: "メールは使えません。このネットワークの運営者はメールサーバーを設定していません。",
  webhookRule: "https の URL。最初に確認用の文字列を送るので、その文字列だけを返してください。",
  tellMe: "ここに通知する",
  toldIn: "通知の言語",
  toldAt: (address) => `通知先：${address}`,
  askedAt: (address) => `${address} の同意を待っています`,
  codeField: "メールに届いたコード",
  confirmCode: "確認する",
  toldNoMore: "ここへの通知をやめる",
  toldFailed: (time, waiting) => `${time} に失敗、未送信 ${waiting} 件。`,
  signingOnce: "通知はこの秘密鍵で署名されます。表示は今回限りです。他人の目に触れない場所に保管してください。",
};
