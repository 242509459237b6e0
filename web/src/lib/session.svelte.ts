/** Who uses the console: a stranger, or whoever signed in. The cookie itself is out of every script's reach. */
import { ask, carry, send, type Session } from "./api";

let now = $state.raw<Session>();

function take(session: Session): void {
  now = session;
  carry(session.csrf, () => (now = { ...session, account: "", key_id: "", scopes: [], roles: ["viewer"], csrf: "" }));
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
