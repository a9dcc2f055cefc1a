/**
 * What screen readers are told about the call, gathered so that ten people who come at once are one sentence. Outputs:
 * `text`, for a polite live region. `close` stops it.
 */
import { type Signal, signal } from "@preact/signals";
import { list } from "../room/sentences.ts";

/** Announcements come this far apart at least. */
const GATHER_MS = 2500;
/** Longer messages are cut: the chat has them whole. */
const MESSAGE_LENGTH = 120;

interface Somebody {
  node: number;
  name: string;
  presence: { hand: boolean };
}

export class Announcer {
  readonly text: Signal<string> = signal("");

  private came: string[] = [];
  private went: string[] = [];
  private hands: string[] = [];
  private messages: string[] = [];
  private timer: ReturnType<typeof setTimeout> | null = null;

  people(before: readonly Somebody[], now: readonly Somebody[]): void {
    const old = new Map(before.map((person) => [person.node, person]));
    const current = new Set(now.map((person) => person.node));
    for (const person of now) {
      if (!old.has(person.node)) this.came.push(person.name);
      if (person.presence.hand && old.get(person.node)?.presence.hand === false) this.hands.push(person.name);
    }
    for (const person of before) if (!current.has(person.node)) this.went.push(person.name);
    if (this.came.length + this.went.length + this.hands.length > 0) this.schedule();
  }

  message(name: string, text: string): void {
    this.messages.push(`Message from ${name}: ${text.slice(0, MESSAGE_LENGTH)}`);
    this.schedule();
  }

  /** Says something that the person just did, at once. */
  say(text: string): void {
    this.text.value = text;
  }

  close(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  private schedule(): void {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.text.value = this.take();
    }, GATHER_MS);
  }

  /** Everything gathered, as sentences; nothing is left. */
  private take(): string {
    const sentences: string[] = [];
    if (this.came.length > 0) sentences.push(`${names(this.came)} came in.`);
    if (this.went.length > 0) sentences.push(`${names(this.went)} left.`);
    if (this.hands.length > 0) sentences.push(`${names(this.hands)} raised a hand.`);
    const last = this.messages.at(-1);
    if (this.messages.length > 1) sentences.push(`${this.messages.length} new messages.`);
    else if (last !== undefined) sentences.push(last);
    this.came = [];
    this.went = [];
    this.hands = [];
    this.messages = [];
    return sentences.join(" ");
  }
}

function names(all: readonly string[]): string {
  return all.length > 3 ? `${all.length} people` : list(all);
}
