/**
 * Whether a microphone that should be heard gives nothing but digital silence: switched off at its cable, or the wrong
 * one. Pure.
 */

/** RFC 6464: no sound at all. Any room is louder. */
const SILENCE = 127;
/** A microphone that never gave a sound is told of this soon. */
const NEVER_MS = 3_000;
/** One that did may only have a noise gate, which cuts pauses off. */
const AFTER_SOUND_MS = 20_000;

export class SilenceWatch {
  private sinceMs: number | null = null;
  private heard = false;

  /** About once a second or more often. `on`: the microphone is meant to be heard. True when it is worth a word. */
  step(on: boolean, level: number, nowMs: number): boolean {
    if (!on) {
      this.sinceMs = null;
      this.heard = false;
      return false;
    }
    if (level < SILENCE) {
      this.sinceMs = null;
      this.heard = true;
      return false;
    }
    this.sinceMs ??= nowMs;
    return nowMs - this.sinceMs >= (this.heard ? AFTER_SOUND_MS : NEVER_MS);
  }
}
