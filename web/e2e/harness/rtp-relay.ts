/**
 * A relay's RTP door inside a page, for tests of the client's end: a second peer connection answers the client's offers in
 * the relay's place, and passes frames and control messages between that connection and the real relay's WebSocket. What
 * goes up leaves RTP in a transform here as it left the client's; what comes down takes the place of the frames of a
 * small encoder's. It reads nothing but the bit that tells sound from pictures.
 *
 * Less than the real door: one layer up (browsers do not receive simulcast), one stream down, and every picture that
 * comes down goes at the encoder's beat.
 */
import type { Page } from "puppeteer-core";

/** What has passed since the page loaded, in frames. */
export interface Passed {
  up: { audio: number; video: number };
  /** Of those that went up, how many do not begin with a sealed frame's header. */
  clear: number;
  down: { audio: number; video: number };
  connections: number;
}

interface Scope {
  grovePassed: Passed;
}

/** For `OpenOptions.before`. */
export function rtpDoor(): void {
  const passed: Passed = { up: { audio: 0, video: 0 }, down: { audio: 0, video: 0 }, clear: 0, connections: 0 };
  (globalThis as unknown as Scope).grovePassed = passed;
  const FIRST_RELAY = 65_000;
  const source = `
    const queues = { audio: [], video: [] };
    let up = null;
    onmessage = ({ data }) => {
      if (data.up) up = data.up;
      else { const queue = queues[data.kind]; queue.push(data.frame); if (queue.length > 200) queue.shift(); }
    };
    onrtctransform = async ({ transformer: { readable, writable, options } }) => {
      const reader = readable.getReader(), writer = writable.getWriter();
      for (;;) {
        const { value: frame, done } = await reader.read();
        if (done) return;
        if (options.way === "up") { up?.postMessage({ kind: options.kind, frame: frame.data }); continue; }
        const next = queues[options.kind].shift();
        if (next) { frame.data = next; await writer.write(frame); up?.postMessage({ down: options.kind }); }
      }
    };`;
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const isSound = (frame: ArrayBuffer): boolean => ((new Uint8Array(frame, 1, 1)[0] ?? 0) & 0x30) === 0x10;

  /** As far as docs/ref/frame.md fixes bytes of the header: the first, the version, and the two at the end. */
  function isSealed(frame: ArrayBuffer): boolean {
    if (frame.byteLength < 40) return false;
    const view = new DataView(frame);
    return [0x80, 0x85].includes(view.getUint8(0)) && view.getUint8(1) >>> 6 === 1 && view.getUint16(22) === 0;
  }

  /** What the small encoders work on: something that moves, and something that sounds. */
  function carriers(): { audio: MediaStreamTrack; video: MediaStreamTrack } {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [32, 32];
    const pen = canvas.getContext("2d");
    let n = 0;
    setInterval(() => {
      n += 1;
      if (pen) pen.fillStyle = `rgb(${n % 255} 0 0)`;
      pen?.fillRect(0, 0, 32, 32);
    }, 15);
    const context = new AudioContext();
    const sound = context.createMediaStreamDestination();
    const tone = context.createOscillator();
    tone.connect(sound);
    tone.start();
    const [audio, video] = [sound.stream.getAudioTracks()[0], canvas.captureStream(60).getVideoTracks()[0]];
    if (!audio || !video) throw new Error("a canvas and a tone have tracks");
    return { audio, video };
  }

  class Door {
    readonly connection = new RTCPeerConnection();
    readonly worker = new Worker(address);
    readonly socket: WebSocket;
    readonly waiting: string[] = [];
    /** Of the offer that is answered at present. */
    work: Promise<void> = Promise.resolve();

    constructor(token: string) {
      passed.connections += 1;
      const channel = this.connection.createDataChannel("control", { negotiated: true, id: 0 });
      this.socket = new NativeSocket(`${location.origin.replace("http", "ws")}/api/v1/relay`, "grove.relay.v1");
      this.socket.binaryType = "arraybuffer";
      let welcome = false;
      this.socket.onopen = () => this.socket.send(JSON.stringify({ t: "hello", token }));
      this.socket.onmessage = ({ data }) => {
        if (!welcome) welcome = true;
        else if (typeof data === "string") {
          if (channel.readyState === "open") channel.send(data);
        } else this.worker.postMessage({ kind: isSound(data) ? "audio" : "video", frame: data }, [data]);
      };
      this.socket.onclose = () => this.connection.close();
      channel.onmessage = ({ data }) => welcome && this.socket.readyState === 1 && this.socket.send(data);
      const { port1, port2 } = new MessageChannel();
      this.worker.postMessage({ up: port2 }, [port2]);
      port1.onmessage = ({ data }) => {
        if (data.down) passed.down[data.down as "audio" | "video"] += 1;
        else {
          passed.up[data.kind as "audio" | "video"] += 1;
          if (!isSealed(data.frame)) passed.clear += 1;
          if (welcome && this.socket.readyState === 1) this.socket.send(data.frame);
        }
      };
    }

    async answer(sdp: string): Promise<string> {
      const { connection, worker } = this;
      connection.ontrack = ({ track, receiver }) => {
        receiver.transform = new RTCRtpScriptTransform(worker, { way: "up", kind: track.kind });
      };
      await connection.setRemoteDescription({ type: "offer", sdp });
      const down = carriers();
      const senders: ["audio" | "video", RTCRtpSender][] = [];
      for (const kind of ["audio", "video"] as const) {
        const slot = connection
          .getTransceivers()
          .find((t) => t.receiver.track.kind === kind && t.direction === "inactive");
        const free =
          slot ?? connection.getTransceivers().find((t) => !sends(sdp, t.mid) && t.receiver.track.kind === kind);
        if (!free || free.sender.track) continue;
        free.direction = "sendonly";
        free.sender.transform = new RTCRtpScriptTransform(worker, { way: "down", kind });
        senders.push([kind, free.sender]);
      }
      await connection.setLocalDescription();
      // Any earlier, and Chromium sends pictures past the transform.
      for (const [kind, sender] of senders) await sender.replaceTrack(down[kind]);
      while (connection.iceGatheringState !== "complete") await new Promise((done) => setTimeout(done, 20));
      return connection.localDescription?.sdp ?? "";
    }
  }

  /** Whether the offer's part of this name is one on which the offerer sends. */
  function sends(sdp: string, mid: string | null): boolean {
    const part = sdp.split(/^m=/m).find((one) => one.includes(`a=mid:${mid}\r\n`));
    return part?.includes("a=sendonly") === true;
  }

  // Two layers on one part of the description would come here as one source that changes all the time.
  const add = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (kind, init) {
    const one = init?.sendEncodings ? { ...init, sendEncodings: init.sendEncodings.slice(0, 1) } : init;
    return add.call(this, kind, one);
  };

  const NativeSocket = globalThis.WebSocket;
  const tokens = new Map<number, string>();
  const doors = new Map<string, Door>();
  globalThis.WebSocket = class extends NativeSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener("message", ({ data }) => {
        if (typeof data !== "string" || !data.includes('"relay":{')) return;
        const told = JSON.parse(data) as { changes?: unknown[]; orders?: { changes: unknown[] } };
        for (const change of told.changes ?? told.orders?.changes ?? []) {
          const { order, peer, relay } = change as { order: string; peer: number; relay?: { token: string } };
          if (order === "link" && relay) tokens.set(peer, relay.token);
        }
      });
    }

    override send(data: string | ArrayBufferLike | Blob | ArrayBufferView<ArrayBuffer>): void {
      const said = typeof data === "string" && data.includes('"description"') ? JSON.parse(data) : null;
      if (said?.type !== "description" || said.to < FIRST_RELAY) {
        super.send(data as string);
        return;
      }
      const token = tokens.get(said.to) ?? "";
      let door = doors.get(token);
      if (!door) {
        for (const old of doors.values()) old.socket.close();
        door = new Door(token);
        doors.set(token, door);
      }
      const mine = door;
      const answered = mine.work.then(() => mine.answer(said.sdp));
      mine.work = answered.then((sdp) => {
        const message = { type: "description", from: said.to, kind: "answer", sdp, signature: "" };
        this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(message) }));
      });
    }
  };
}

export const passedBy = (page: Page): Promise<Passed> =>
  page.evaluate(() => (globalThis as unknown as Scope).grovePassed);
