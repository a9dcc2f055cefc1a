/** Hearing oneself before a call: the level of the microphone, and a tone for the speaker. */
import { type Meter, meter } from "@grove/client/media/devices";
import { type Signal, signal } from "@preact/signals";

/** Times per second that the level is read. */
const READ_PER_SECOND = 15;
/** Levels (RFC 6464: decibels below the loudest) that the bar spans. */
const QUIETEST = 60;
const SILENCE = 127;

/** A microphone's level for the eye. Where the browser holds its sound back it reads as silence. `close` frees it. */
export class LevelMeter {
  /** 0..1. */
  readonly level: Signal<number> = signal(0);
  /** Nothing but silence came for three seconds. */
  readonly silent: Signal<boolean> = signal(false);

  private readonly meter: Meter | null;
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(track: MediaStreamTrack) {
    this.meter = meter(track);
    let quietReads = 0;
    this.timer = setInterval(() => {
      const read = this.meter?.level() ?? SILENCE;
      // Falls slowly, so that the eye can follow.
      this.level.value = Math.max(0, 1 - read / QUIETEST, this.level.peek() - 0.08);
      quietReads = read >= SILENCE ? quietReads + 1 : 0;
      this.silent.value = quietReads > READ_PER_SECOND * 3;
    }, 1000 / READ_PER_SECOND);
  }

  close(): void {
    clearInterval(this.timer);
    this.meter?.close();
  }
}

/** Louder than this (RFC 6464) counts as talk, heard so often out of the last ten readings. */
const TALK_LEVEL = 40;
const TALK_READS = 5;

/** Says once that somebody talks into a microphone, until it is closed. */
export class TalkDetector {
  private readonly meter: Meter | null;
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(track: MediaStreamTrack, heard: () => void) {
    this.meter = meter(track);
    let recent: boolean[] = [];
    this.timer = setInterval(() => {
      recent = [...recent.slice(-9), (this.meter?.level() ?? SILENCE) < TALK_LEVEL];
      if (recent.filter(Boolean).length < TALK_READS) return;
      heard();
      this.close();
    }, 100);
  }

  close(): void {
    clearInterval(this.timer);
    this.meter?.close();
  }
}

/** Plays two soft notes on a speaker, so that a person hears whether it is the right one. */
export async function playTestTone(speaker: string): Promise<void> {
  const context = new AudioContext();
  if (speaker !== "" && "setSinkId" in context && typeof context.setSinkId === "function") {
    await context.setSinkId(speaker).catch(() => undefined);
  }
  const gain = context.createGain();
  gain.connect(context.destination);
  for (const [index, hertz] of [440, 660].entries()) {
    const tone = context.createOscillator();
    const start = context.currentTime + 0.05 + index * 0.3;
    tone.frequency.value = hertz;
    tone.connect(gain);
    tone.start(start);
    tone.stop(start + 0.28);
  }
  gain.gain.setValueAtTime(0, context.currentTime);
  gain.gain.linearRampToValueAtTime(0.2, context.currentTime + 0.1);
  gain.gain.linearRampToValueAtTime(0, context.currentTime + 0.7);
  setTimeout(() => void context.close().catch(() => undefined), 1500);
}
