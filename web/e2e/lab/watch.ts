/**
 * When things happened in a page, by the messages that it exchanges with the server: `ready` says that the first frame
 * of a stream came from a parent. Times are Unix milliseconds with fractions.
 */
import type { Participant } from "../harness/participant.ts";
import { within } from "../harness/wait.ts";

/** The first frame of `stream` came from `parent`. */
export interface Ready {
  atMs: number;
  source: number;
  parent: number;
}

interface Scope {
  groveWatch: Ready[];
}

/** For `OpenOptions.before`. */
export function watchPage(): void {
  const scope = globalThis as unknown as Scope;
  scope.groveWatch = [];
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data): void {
    send.call(this, data);
    if (typeof data !== "string" || !data.includes('"ready"')) return;
    const message = JSON.parse(data) as { type: string; stream?: { node: number }; parent?: number };
    if (message.type !== "ready" || !message.stream) return;
    const atMs = performance.timeOrigin + performance.now();
    scope.groveWatch.push({ atMs, source: message.stream.node, parent: message.parent ?? -1 });
  };
}

/** Everything so far, oldest first. */
export function readies(person: Participant): Promise<Ready[]> {
  const read = (): Ready[] => (globalThis as unknown as Scope).groveWatch;
  return within(10_000, `${person.name} tells what it received`, person.page.evaluate(read));
}
