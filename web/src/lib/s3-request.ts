/** One request to the S3 gateway. XMLHttpRequest tells how much of a body has left, and reads XML without a script's help. */
import { Failed } from "./api";

export interface Sent {
  body?: Blob | string;
  type?: string;
  /** Told how many bytes of the body have left. */
  progress?: (bytes: number) => void;
  signal?: AbortSignal;
}

/** Raises Failed: what the gateway says, `storage.unreachable`, or `stopped`. */
export function request(method: string, url: string, { body, type, progress, signal }: Sent): Promise<XMLHttpRequest> {
  return new Promise((done, failed) => {
    const running = new XMLHttpRequest();
    running.open(method, url);
    running.responseType = "document";
    if (type) running.setRequestHeader("Content-Type", type);
    if (progress) running.upload.onprogress = ({ loaded }) => progress(loaded);
    running.onload = () => (running.status < 300 ? done(running) : failed(refusal(running)));
    running.onerror = () => failed(new Failed("storage.unreachable", "", new URL(url).origin));
    running.onabort = () => failed(new Failed("stopped", ""));
    const stop = (): void => running.abort();
    signal?.addEventListener("abort", stop);
    running.onloadend = () => signal?.removeEventListener("abort", stop);
    if (signal?.aborted) failed(new Failed("stopped", ""));
    else running.send(body ?? null);
  });
}

/** Elements of an answer by their name. */
export const elements = (answer: XMLHttpRequest, name: string): Element[] => [...(answer.responseXML?.getElementsByTagName(name) ?? [])];

/** The text of an element's child; "" where it has none of that name. */
export function text(element: Element | null | undefined, name: string): string {
  return [...(element?.children ?? [])].find(({ localName }) => localName === name)?.textContent ?? "";
}

function refusal(answer: XMLHttpRequest): Failed {
  const root = answer.responseXML?.documentElement;
  const code = text(root, "Code") || `HTTP ${answer.status}`;
  return new Failed(`s3.${code}`, text(root, "Message") || code, "", answer.status);
}
