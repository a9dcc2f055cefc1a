/**
 * A link to a relay by RTP, presented as the three channels that a `Link` takes. Control is the connection's own data
 * channel. Frames come from the transforms of its receivers (`arrived`), before any jitter buffer of the browser's.
 * Nothing is sent here: what a relay gets of us leaves through the encoders' transforms (`Link.carried`).
 */
import type { Channel } from "./link.ts";

export class RtpChannels {
  readonly token: string;
  readonly video: Channel;
  readonly audio: Channel;
  readonly control: Channel;

  constructor(token: string, control: Channel) {
    this.token = token;
    this.control = control;
    this.video = new Received(control);
    this.audio = new Received(control);
  }

  /** A receiver's transform got a frame. */
  arrived(sealed: ArrayBuffer): void {
    this.video.onmessage?.call(undefined as never, new MessageEvent("message", { data: sealed }));
  }
}

/** Frames come on it, and none go. As open as the control channel: without it there is no conversation. */
class Received implements Channel {
  binaryType: BinaryType = "arraybuffer";
  readonly bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  onopen: Channel["onopen"] = null;
  onclose: Channel["onclose"] = null;
  onmessage: Channel["onmessage"] = null;
  onbufferedamountlow: Channel["onbufferedamountlow"] = null;
  readonly #control: Channel;

  constructor(control: Channel) {
    this.#control = control;
  }

  get readyState(): RTCDataChannelState {
    return this.#control.readyState;
  }

  send(): void {
    throw new DOMException("Frames go to a relay through the encoders.", "InvalidStateError");
  }

  close(): void {}
}
