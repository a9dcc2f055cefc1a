/**
 * Small measurements over a clock that the caller owns: rates, round-trip times, one-way delay. Pure; a few hundred
 * bytes each.
 */

const BUCKET_MS = 100;
const BUCKETS = 10;

/** Bits per second over the last second, in buckets of 100 ms. */
export class Rate {
  private readonly buckets = new Float64Array(BUCKETS);
  private head = -1;

  add(bytes: number, now: number): void {
    this.roll(now);
    const at = this.head % BUCKETS;
    this.buckets[at] = (this.buckets[at] ?? 0) + bytes;
  }

  bps(now: number): number {
    this.roll(now);
    let bytes = 0;
    for (const b of this.buckets) bytes += b;
    return Math.round((bytes * 8000) / (BUCKET_MS * BUCKETS));
  }

  private roll(now: number): void {
    const bucket = Math.floor(now / BUCKET_MS);
    if (this.head < 0 || bucket - this.head >= BUCKETS) {
      if (bucket !== this.head) this.buckets.fill(0);
      this.head = bucket;
      return;
    }
    while (this.head < bucket) {
      this.head += 1;
      this.buckets[this.head % BUCKETS] = 0;
    }
  }
}

/** Smoothed round-trip time, RFC 6298 section 2 (alpha 1/8, beta 1/4), in milliseconds. */
export class Rtt {
  /** 0 until the first sample. */
  srtt = 0;
  rttvar = 0;
  samples = 0;

  sample(ms: number): void {
    if (!(ms >= 0) || ms > 60_000) return;
    if (this.samples === 0) {
      this.srtt = ms;
      this.rttvar = ms / 2;
    } else {
      this.rttvar += (Math.abs(this.srtt - ms) - this.rttvar) / 4;
      this.srtt += (ms - this.srtt) / 8;
    }
    this.samples += 1;
  }

  /** srtt + 4 rttvar; `unknown` until there is a sample. */
  bound(unknown: number): number {
    return this.samples === 0 ? unknown : this.srtt + 4 * this.rttvar;
  }
}

const LOSS_MS = 5000;
/** Fewer frames than this say nothing: one on its way would look like a loss of several percent. */
const LOSS_FRAMES = 50;

/**
 * Share of a peer's frames that never came over about the last 5 s, from what it says to have sent on this link and
 * what came. So a loss further up, or a frame dropped on purpose, is not held against the link.
 */
export class Loss {
  private readonly marks: { at: number; sent: number; came: number }[] = [];

  /** The peer had sent `sent` frames in all when it wrote; `came` have come by now. */
  note(sent: number, came: number, now: number): void {
    const last = this.marks.at(-1);
    if (last && sent < last.sent) this.marks.length = 0;
    if (!last || now - last.at >= 250) this.marks.push({ at: now, sent, came });
    while (this.marks[1] && now - this.marks[1].at > LOSS_MS) this.marks.shift();
  }

  get share(): number {
    const first = this.marks[0];
    const last = this.marks.at(-1);
    if (!first || !last || last.sent - first.sent < LOSS_FRAMES) return 0;
    return Math.min(1, Math.max(0, 1 - (last.came - first.came) / (last.sent - first.sent)));
  }
}

/** Windows of the running minimum: clocks of two machines drift about 3 ms a minute, so an old minimum must go. */
const WINDOW_MS = 30_000;

/** Capture-to-arrival delay above the fastest frame of the last half to full minute, smoothed over 16 frames. */
export class Delay {
  private minimum = Number.POSITIVE_INFINITY;
  private older = Number.POSITIVE_INFINITY;
  private since = 0;
  private smoothed = Number.NaN;

  sample(captureUs: number, now: number): void {
    const transit = now - captureUs / 1000;
    if (!(now - this.since < WINDOW_MS)) {
      this.older = this.minimum;
      this.minimum = transit;
      this.since = now;
    }
    this.minimum = Math.min(this.minimum, transit);
    this.smoothed = Number.isNaN(this.smoothed) ? transit : this.smoothed + (transit - this.smoothed) / 16;
  }

  get ms(): number {
    return Number.isNaN(this.smoothed) ? 0 : Math.max(0, this.smoothed - Math.min(this.minimum, this.older));
  }
}
