/**
 * One call: a room of the client, the person's own devices, and what the page shows of both. Owns them from `start` to
 * `leave`; the media that the pre-join page opened comes in and is closed with the call.
 */
import type { Connection, Room, RoomState } from "@grove/client/api";
import { computed, type Signal, signal } from "@preact/signals";
import { type Changes, withChanges } from "../room/changes.ts";
import { forwardingSentence } from "../room/sentences.ts";
import { Announcer } from "./announcer.ts";
import { type Entry, enter } from "./client.ts";
import { type Device, failureWords } from "./failure.ts";
import type { LocalMedia } from "./media.ts";
import { TalkDetector } from "./meter.ts";
import { passOn, speakerId, wantCamera, wantMicrophone } from "./settings.ts";
import { SilenceWatch } from "./silence.ts";

export type Panel = "chat" | "people" | "trees";

/** Renders per second at most: levels change ten times a second, and nobody reads faster. */
const RENDER_EVERY_MS = 60;
const DEVICES = ["camera", "microphone"] as const;
/** What browsers count as a gesture. */
const GESTURES = ["pointerup", "keydown"] as const;
/** Shorter gaps of the connection are not worth a word. */
const QUIET_GAP_MS = 3000;

export class Call {
  readonly state: Signal<RoomState>;
  readonly panel: Signal<Panel | null> = signal<Panel | null>(null);
  readonly hand: Signal<boolean> = signal(false);
  readonly unread: Signal<number> = signal(0);
  /** A sentence about the person's own devices, until dismissed. */
  readonly ownTrouble: Signal<string | null> = signal<string | null>(null);
  readonly mutedButTalking: Signal<boolean> = signal(false);
  /** The microphone is on and gives no sound at all. */
  readonly microphoneSilent: Signal<boolean> = signal(false);
  /** What changed last in each tree, as far as the trees were looked at. */
  readonly changes: Signal<Changes> = signal<Changes>(new Map());
  readonly announcer = new Announcer();
  /** Date.now(), once a second, while the countdown of a reconnection needs it. */
  readonly clock: Signal<number> = signal(Date.now());
  /** What runs, for the sign; a string, so that it changes only when the words do. Null: nothing. */
  readonly running = computed(() => {
    const { microphone, camera } = this.state.value.sending;
    const muted = microphone === "muted";
    if (camera === "on") {
      return microphone === "on" ? "Camera and microphone on" : muted ? "Camera on, microphone muted" : "Camera on";
    }
    return microphone === "on" ? "Microphone on" : muted ? "Microphone muted" : null;
  });

  readonly room: Room;
  readonly entry: Entry;
  readonly media: LocalMedia;
  private readonly unsubscribe: () => void;
  private readonly ticker: ReturnType<typeof setInterval>;
  private pending: ReturnType<typeof setTimeout> | null = null;
  private lastRender = 0;
  /** Devices that the room is just taking. */
  private giving = 0;
  private mutedMeter: TalkDetector | null = null;
  private readonly silence = new SilenceWatch();
  private pushToTalk = false;

  /** Joins. The devices that run in `media` are sent as soon as sound is set up; leaving is possible from now on. */
  static async start(entry: Entry, media: LocalMedia): Promise<Call> {
    const call = new Call(await enter(entry), entry, media);
    void call.publish();
    return call;
  }

  private constructor(room: Room, entry: Entry, media: LocalMedia) {
    this.room = room;
    this.entry = entry;
    this.media = media;
    this.state = signal({ ...room.state });
    this.unsubscribe = room.subscribe(() => this.onChange());
    this.ticker = setInterval(() => {
      this.clock.value = Date.now();
    }, 1000);
    room.setPassesOn(passOn.peek());
    // What could not be had at the door does not go on the air by itself, an hour later.
    for (const device of DEVICES) if (media[device].peek().state === "failed") media.stop(device);
    media.onEnded = (device) => void this.deviceEnded(device);
    media.onReturned = (device) => {
      this.ownTrouble.value = null;
      void this.give(device);
    };
    // Whatever the person does first in the page lets held-back sound go.
    for (const event of GESTURES) addEventListener(event, this.onGesture);
  }

  /** Whether a broken connection is worth a banner yet. */
  interrupted(): Extract<Connection, { state: "reconnecting" }> | null {
    const { connection } = this.state.value;
    if (connection.state !== "reconnecting") return null;
    return this.clock.value - connection.sinceMs >= QUIET_GAP_MS ? connection : null;
  }

  async toggleMicrophone(): Promise<void> {
    const { microphone } = this.state.peek().sending;
    this.mutedButTalking.value = false;
    if (microphone !== "off") {
      this.room.setMuted(microphone === "on");
      wantMicrophone.value = microphone !== "on";
      return;
    }
    if (await this.startDevice("microphone")) {
      this.room.setMuted(false);
      wantMicrophone.value = true;
    }
  }

  async toggleCamera(): Promise<void> {
    if (this.state.peek().sending.camera === "on") {
      await this.room.setCamera(null);
      this.media.stop("camera");
      wantCamera.value = false;
      return;
    }
    if (await this.startDevice("camera")) wantCamera.value = true;
  }

  /** Holding the space bar opens a muted microphone for as long. */
  talk(held: boolean): void {
    const { microphone } = this.state.peek().sending;
    if (held && microphone === "muted") {
      this.pushToTalk = true;
      this.room.setMuted(false);
    } else if (!held && this.pushToTalk) {
      this.pushToTalk = false;
      this.room.setMuted(true);
    }
  }

  /** Changes the camera or microphone; one that is off is only remembered. */
  async choose(device: Device, id: string): Promise<void> {
    const was = this.media[device].peek().state;
    await this.media.choose(device, id);
    if (was === "off") return;
    this.tellFailure(device);
    await this.give(device);
  }

  async chooseSpeaker(id: string): Promise<void> {
    speakerId.value = id;
    if (await this.room.setSpeaker(id)) return;
    this.ownTrouble.value =
      "The browser could not use this speaker. The sound comes from where it did; choose another.";
  }

  toggleHand(): void {
    this.hand.value = !this.hand.peek();
    this.room.setHand(this.hand.peek());
  }

  /** Whether others' streams may pass through this device; remembered for the next call. */
  setPassesOn(on: boolean): void {
    passOn.value = on;
    this.room.setPassesOn(on);
    const { people, bps } = this.room.state.sending.forwarding;
    this.announcer.say(on ? "You pass on for others again." : forwardingSentence(people, bps, false));
  }

  toggle(panel: Panel): void {
    this.panel.value = this.panel.peek() === panel ? null : panel;
    if (this.panel.peek() === "chat") this.unread.value = 0;
    this.room.watchTrees(this.panel.peek() === "trees");
  }

  /** Leaves, and frees everything. Idempotent. */
  leave(): void {
    this.unsubscribe();
    for (const event of GESTURES) removeEventListener(event, this.onGesture);
    clearInterval(this.ticker);
    if (this.pending !== null) clearTimeout(this.pending);
    this.announcer.close();
    this.mutedMeter?.close();
    this.media.close();
    this.room.close();
  }

  private readonly onGesture = (): void => {
    if (this.state.peek().notices.some(({ id }) => id === "sound")) void this.room.resumeSound();
  };

  private async publish(): Promise<void> {
    await Promise.all([this.give("camera"), this.give("microphone")]);
    if (speakerId.peek() !== "") await this.room.setSpeaker(speakerId.peek());
  }

  private async give(device: Device): Promise<void> {
    const track = this.media.track(device);
    this.giving += 1;
    try {
      if (device === "camera") await this.room.setCamera(track);
      else await this.room.setMicrophone(track);
    } catch {
      // The browser refuses the track: it ended meanwhile, for example.
      this.media.fail(device);
      this.tellFailure(device);
    } finally {
      this.giving -= 1;
    }
  }

  /** A device that the room does not send (it could not, or gave up) must not run on. Notices say why. */
  private stopUnsent({ sending }: RoomState): void {
    if (this.giving > 0) return;
    for (const device of DEVICES) {
      if (sending[device] === "off" && this.media.track(device) !== null) this.media.stop(device);
    }
  }

  private async startDevice(device: Device): Promise<boolean> {
    const started = await this.media.start(device);
    this.tellFailure(device);
    if (started) await this.give(device);
    return started;
  }

  private tellFailure(device: Device): void {
    const now = this.media[device].peek();
    if (now.state !== "failed") {
      this.ownTrouble.value = null;
      return;
    }
    const { what, how } = failureWords(now.failure);
    this.ownTrouble.value = `${what} ${how}`;
  }

  private async deviceEnded(device: Device): Promise<void> {
    this.ownTrouble.value = `The ${device} was unplugged or taken away. Others ${device === "camera" ? "see" : "hear"} nothing from you until it is back.`;
    await this.give(device);
  }

  private onChange(): void {
    if (this.pending !== null) return;
    const wait = Math.max(0, this.lastRender + RENDER_EVERY_MS - performance.now());
    this.pending = setTimeout(() => this.render(), wait);
  }

  private render(): void {
    this.pending = null;
    this.lastRender = performance.now();
    const before = this.state.peek();
    const now = { ...this.room.state };
    if (now.trees !== before.trees) {
      this.changes.value = withChanges(
        this.changes.peek(),
        before.trees?.trees ?? [],
        now.trees?.trees ?? [],
        Date.now(),
      );
    }
    const known = new Set(now.chat === before.chat ? [] : before.chat.map(({ id }) => id));
    const fresh = now.chat === before.chat ? [] : now.chat.filter(({ id, mine }) => !mine && !known.has(id));
    if (before.connection.state === "joined") {
      if (this.panel.peek() !== "chat" && fresh.length > 0) {
        this.unread.value += fresh.length;
        for (const line of fresh) if (line.text !== null) this.announcer.message(line.name, line.text);
      }
      this.announcer.people(before.others, now.others);
    }
    this.state.value = now;
    this.stopUnsent(now);
    const { microphone, audioLevel } = now.sending;
    // Without sound in the page nothing can be measured, and that is told already.
    const measured = microphone === "on" && !now.notices.some(({ id }) => id === "sound");
    this.microphoneSilent.value = this.silence.step(measured, audioLevel, performance.now());
    this.listenWhileMuted(now.sending.microphone === "muted");
  }

  /** A muted microphone sends nothing, so the client has no level for it: measure it here, for as long as it is muted. */
  private listenWhileMuted(muted: boolean): void {
    if (!muted) {
      this.mutedMeter?.close();
      this.mutedMeter = null;
      this.mutedButTalking.value = false;
      return;
    }
    const track = this.media.track("microphone");
    if (this.mutedMeter !== null || track === null) return;
    this.mutedMeter = new TalkDetector(track, () => {
      this.mutedButTalking.value = true;
    });
  }
}
