/** Who uses the console: a stranger, or whoever signed in. The cookie itself is out of every script's reach. */
import { ask, carry, send, type Challenge, type Session } from "./api";
import { account, sign } from "./wallet";

let now = $state.raw<Session>();

function take(session: Session): void {
  now = session;
  carry(session.csrf, () => (now = { ...session, account: "", key_id: "", scopes: [], roles: [], csrf: "" }));
}

/** Asks who this is. Raises Failed. */
export async function look(): Promise<Session> {
  const found = await ask<Session>("/v1/session");
  take(found);
  return found;
}

/** Signs in with an API key, which is kept nowhere. Raises Failed. */
export async function signIn(key: string): Promise<void> {
  take(await send<Session>("POST", "/v1/session", { key }));
}

/** Signs in with the browser's wallet: it signs a text that says so (EIP-4361). Raises Failed. */
export async function signInByWallet(): Promise<void> {
  const by = await account();
  const asked = await send<Challenge>("POST", "/v1/session/challenge", { account: by });
  const signature = await sign(asked.text, by);
  take(await send<Session>("POST", "/v1/session/wallet", { account: by, nonce: asked.nonce, signature }));
}

/** Ends the session. Raises Failed. */
export async function signOut(): Promise<void> {
  take(await send<Session>("DELETE", "/v1/session"));
}

export const session = {
  /** Undefined until it is known. */
  get now() {
    return now;
  },
  get signedIn() {
    return !!now?.account;
  },
  may(role: string) {
    return !!now?.roles.includes(role);
  },
};
