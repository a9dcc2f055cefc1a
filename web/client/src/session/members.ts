/**
 * The others as far as trust goes: whose identity carries the room secret's seal, and the letters between them and us.
 * Somebody unverified is never sent a key and never gets a link; what comes from there is left alone.
 */
import { type OwnIdentity, type RemoteIdentity, type RoomKeys, verifyIdentity } from "../frame/keys.ts";
import { openSenderKey, type Party, sealSenderKey, signDescription, verifyDescription } from "../frame/mail.ts";
import type { SenderKey } from "../frame/seal.ts";
import type { DescriptionKind, Participant } from "../signal/messages.ts";

/** Mail may overtake the news of its sender; it is kept this long. */
const EARLY_MS = 10_000;
/** A bound on what strangers can make us keep. */
const EARLY_MOST = 64;

interface Member {
  party: Party;
  /** Null when the identity does not fit the room secret. */
  identity: Promise<RemoteIdentity | null>;
  mac: string;
}

export class Members {
  readonly #keys: RoomKeys;
  readonly #own: OwnIdentity;
  readonly #me: Party;
  readonly #members = new Map<number, Member>();
  /** Identities that were here and left, by MAC: made for one presence, they are not good for another. */
  readonly #left = new Set<string>();
  #early: { from: number; body: string; untilMs: number }[] = [];

  constructor(keys: RoomKeys, own: OwnIdentity, me: Party) {
    this.#keys = keys;
    this.#own = own;
    this.#me = me;
  }

  /**
   * Takes in somebody, or somebody's new identity; true when verified. `null` when this participant was replaced or left
   * while the check ran. An identity that has left does not come back: whoever shows it again replays it, and with it
   * could replay the letters and frames of that presence.
   */
  async enter({ node, id, identity }: Participant): Promise<boolean | null> {
    const { mac } = identity;
    const checked = this.#left.has(mac) ? Promise.resolve(null) : verifyIdentity(this.#keys, id, identity);
    const member: Member = { party: { node, id }, identity: checked, mac };
    this.#members.set(node, member);
    const verified = (await member.identity) !== null;
    return this.#members.get(node) === member ? verified : null;
  }

  leave(node: number): void {
    const member = this.#members.get(node);
    if (member) this.#left.add(member.mac);
    this.#members.delete(node);
    this.#early = this.#early.filter(({ from }) => from !== node);
  }

  /** Whether this node's identity is verified; waits for a check that is under way. */
  async trusted(node: number): Promise<boolean> {
    return (await this.#members.get(node)?.identity) != null;
  }

  /** A letter that brings our key to `node`; null when there is nobody verified there. */
  async seal(node: number, key: SenderKey): Promise<string | null> {
    const member = this.#members.get(node);
    const identity = await member?.identity;
    if (!member || !identity) return null;
    return sealSenderKey(this.#own, { room: this.#keys.room, from: this.#me, to: member.party }, identity, key);
  }

  /** The key in a letter from `node`; null when it is not that node's letter to us. */
  async open(node: number, body: string): Promise<SenderKey | null> {
    const member = this.#members.get(node);
    const identity = await member?.identity;
    if (!member || !identity) return null;
    return openSenderKey(this.#own, { room: this.#keys.room, from: member.party, to: this.#me }, identity, body);
  }

  /** Keeps mail whose sender is not known yet; true when it was kept. */
  keepEarly(from: number, body: string, nowMs: number): boolean {
    if (this.#members.has(from)) return false;
    this.#early = this.#early.filter(({ untilMs }) => untilMs > nowMs).slice(-(EARLY_MOST - 1));
    this.#early.push({ from, body, untilMs: nowMs + EARLY_MS });
    return true;
  }

  /** The mail that was waiting for this sender. */
  takeEarly(from: number, nowMs: number): string[] {
    const waiting = this.#early.filter((mail) => mail.from === from && mail.untilMs > nowMs);
    this.#early = this.#early.filter((mail) => mail.from !== from);
    return waiting.map(({ body }) => body);
  }

  /** Our signature over a description for `node`; null when there is nobody verified there. */
  async sign(node: number, kind: DescriptionKind, sdp: string): Promise<string | null> {
    const member = this.#members.get(node);
    if (!member || !(await member.identity)) return null;
    const { room } = this.#keys;
    return signDescription(this.#own, { room, from: this.#me.id, to: member.party.id, kind, sdp });
  }

  /** Whether `node` signed this description for us. */
  async verify(node: number, kind: DescriptionKind, sdp: string, signature: string): Promise<boolean> {
    const member = this.#members.get(node);
    const identity = await member?.identity;
    if (!member || !identity) return false;
    const description = { room: this.#keys.room, from: member.party.id, to: this.#me.id, kind, sdp };
    return verifyDescription(identity, description, signature);
  }
}
