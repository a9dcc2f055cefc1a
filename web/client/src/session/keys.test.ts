/** Who can open what, with the real ciphers: several parties, a mailbox between them, and a clock that is only data. */
import { expect, test } from "vitest";
import { decodeHeader } from "../frame/header.ts";
import { makeIdentity, makeSecret, type RoomKeys, roomKeys } from "../frame/keys.ts";
import { Opener, Sealer, type SealFields } from "../frame/seal.ts";
import type { Participant } from "../signal/messages.ts";
import { Distribution } from "./distribution.ts";
import { Members } from "./members.ts";

const SILENT_PACKET: SealFields = {
  key: false,
  kind: "audio",
  spatial: 0,
  temporal: 0,
  width: 0,
  height: 0,
  farthest: 0,
  nearest: 0,
  level: 127,
  captureUs: 0,
  stream: 0,
  track: 0,
  droppable: false,
  rotation: 0,
};

interface Letter {
  from: number;
  to: number;
  body: string;
}

class Party {
  readonly distribution = new Distribution();
  readonly openers = new Map<number, Opener>();
  readonly sealer: Sealer;
  readonly members: Members;
  readonly participant: Participant;
  constructor(members: Members, participant: Participant) {
    this.members = members;
    this.participant = participant;
    this.sealer = new Sealer(participant.node);
  }
  get node(): number {
    return this.participant.node;
  }
  seal(): Promise<Uint8Array<ArrayBuffer>> {
    return this.sealer.seal(SILENT_PACKET, new Uint8Array(20));
  }
  async opens(sealed: Uint8Array, nowMs: number): Promise<boolean> {
    const header = decodeHeader(sealed);
    const opener = header && this.openers.get(header.sender);
    return opener ? (await opener.open(header, sealed, nowMs)).ok : false;
  }
  opener(node: number): Opener {
    const opener = this.openers.get(node) ?? new Opener(node);
    this.openers.set(node, opener);
    return opener;
  }
}

/** What the server does: tells who is there, and carries mail. */
class Hall {
  readonly room = "room";
  readonly secret = makeSecret();
  readonly parties: Party[] = [];
  readonly letters: Letter[] = [];
  nowMs = 0;
  #nodes = 0;

  async enter(secret = this.secret): Promise<Party> {
    this.#nodes += 1;
    const keys = (await roomKeys(this.room, secret)) as RoomKeys;
    const id = `participant-${this.#nodes}`;
    const own = await makeIdentity(keys, id);
    const participant = { node: this.#nodes, id, identity: own.public } as Participant;
    const party = new Party(new Members(keys, own, { node: participant.node, id }), participant);
    for (const other of this.parties) {
      if (await party.members.enter(other.participant)) party.distribution.handleEntered(other.node, this.nowMs);
      if (await other.members.enter(participant)) other.distribution.handleEntered(party.node, this.nowMs);
    }
    this.parties.push(party);
    const first = await party.sealer.key();
    party.distribution.handleOwnKey(first.generation, first.key, this.nowMs);
    await this.settle();
    return party;
  }

  async leave(leaver: Party): Promise<void> {
    this.parties.splice(this.parties.indexOf(leaver), 1);
    for (const other of this.parties) {
      other.members.leave(leaver.node);
      other.openers.delete(leaver.node);
      other.distribution.handleLeft(leaver.node, this.nowMs);
    }
    await this.settle();
  }

  async until(ms: number): Promise<void> {
    for (;;) {
      const deadlines = this.parties.map(({ distribution }) => distribution.deadlineMs ?? Number.POSITIVE_INFINITY);
      const next = Math.min(...deadlines);
      if (next > ms) break;
      this.nowMs = Math.max(this.nowMs, next);
      for (const { distribution } of this.parties) distribution.handleTime(this.nowMs);
      await this.settle();
    }
    this.nowMs = ms;
  }

  async deliver({ from, to, body }: Letter): Promise<boolean> {
    const recipient = this.parties.find(({ node }) => node === to);
    const key = await recipient?.members.open(from, body);
    return key ? ((await recipient?.opener(from).addKey(key.generation, key.key)) ?? false) : false;
  }

  async settle(): Promise<void> {
    for (let busy = true; busy; ) {
      busy = false;
      for (const party of this.parties) {
        for (const action of party.distribution.pollActions()) {
          busy = true;
          if (action.do === "use") {
            party.sealer.use(action.generation);
          } else if (action.do === "mail") {
            const key = { generation: action.generation, key: new Uint8Array(action.key) };
            for (const to of action.to) {
              const body = await party.members.seal(to, key);
              if (body === null) continue;
              this.letters.push({ from: party.node, to, body });
              await this.deliver({ from: party.node, to, body });
            }
          } else {
            const made = await (action.do === "ratchet" ? party.sealer.ratchet() : party.sealer.rotate());
            party.distribution.handleOwnKey(made.generation, made.key, this.nowMs);
          }
        }
      }
    }
  }

  /** Pairs `a>b` where b cannot open what a seals now. */
  async deaf(): Promise<string[]> {
    const deaf: string[] = [];
    for (const from of this.parties) {
      for (const to of this.parties) {
        if (from !== to && !(await to.opens(await from.seal(), this.nowMs))) deaf.push(`${from.node}>${to.node}`);
      }
    }
    return deaf;
  }
}

async function hallOf(count: number): Promise<Hall> {
  const hall = new Hall();
  for (let i = 0; i < count; i++) {
    await hall.enter();
    await hall.until(hall.nowMs + 1_000);
  }
  return hall;
}

test("everybody verified opens what everybody else seals now", async () => {
  const hall = await hallOf(5);
  expect(await hall.deaf()).toEqual([]);
});

test("a newcomer opens nothing that was sealed before it came", async () => {
  const hall = await hallOf(3);
  const past = await Promise.all(hall.parties.map((party) => party.seal()));
  const newcomer = await hall.enter();
  await hall.until(hall.nowMs + 1_000);
  expect(await hall.deaf()).toEqual([]);
  for (const sealed of past) expect(await newcomer.opens(sealed, hall.nowMs)).toBe(false);
});

test("two seconds after a leave the leaver opens nothing, and all who remain open everything", async () => {
  const hall = await hallOf(4);
  const leaver = hall.parties[1] as Party;
  await hall.leave(leaver);
  await hall.until(hall.nowMs + 2_000);
  expect(await hall.deaf()).toEqual([]);
  for (const party of hall.parties) expect(await leaver.opens(await party.seal(), hall.nowMs)).toBe(false);
});

test("while a fresh key is on its way, nobody who remains goes deaf", async () => {
  const hall = await hallOf(4);
  await hall.leave(hall.parties[0] as Party);
  for (let i = 0; i < 12; i++) {
    expect(await hall.deaf()).toEqual([]);
    await hall.until(hall.nowMs + 100);
  }
});

test("whoever has another secret is sent no key, opens nothing, and is opened by nobody", async () => {
  const hall = await hallOf(2);
  const before = hall.letters.length;
  const stranger = await hall.enter(makeSecret());
  await hall.until(hall.nowMs + 2_000);
  expect(hall.letters.length).toBe(before);
  expect(await hall.deaf()).toEqual(["1>3", "2>3", "3>1", "3>2"]);
  expect(await Promise.all(hall.parties.map(({ members }) => members.trusted(stranger.node)))).toEqual([
    false,
    false,
    false,
  ]);
});

test("a letter works for nobody but its sender and its recipient, whatever the server claims", async () => {
  const hall = await hallOf(3);
  const letter = hall.letters.find(({ from, to }) => from === 1 && to === 2) as Letter;
  expect(await hall.deliver(letter)).toBe(true);
  expect(await hall.deliver({ ...letter, from: 3 })).toBe(false);
  expect(await hall.deliver({ ...letter, to: 3 })).toBe(false);
  const bent = letter.body.slice(0, 80) + (letter.body[80] === "A" ? "B" : "A") + letter.body.slice(81);
  expect(await hall.deliver({ ...letter, body: bent })).toBe(false);
});

test("through much coming and going, everybody present opens everything once it is quiet", async () => {
  const hall = await hallOf(3);
  // A fixed sequence: who comes (+) and who goes (by place in the list), and the pause after it, ms.
  const story: [number | "+", number][] = [
    ["+", 0],
    ["+", 200],
    [0, 0],
    [1, 300],
    ["+", 100],
    [2, 900],
    ["+", 0],
    [0, 50],
    ["+", 450],
  ];
  const gone: Party[] = [];
  for (const [what, pauseMs] of story) {
    if (what === "+") await hall.enter();
    else {
      const leaver = hall.parties[what] as Party;
      gone.push(leaver);
      await hall.leave(leaver);
    }
    await hall.until(hall.nowMs + pauseMs);
  }
  await hall.until(hall.nowMs + 3_000);
  expect(hall.parties.length).toBe(4);
  expect(await hall.deaf()).toEqual([]);
  for (const party of hall.parties) {
    for (const leaver of gone) expect(await leaver.opens(await party.seal(), hall.nowMs)).toBe(false);
  }
});
