/** The only place that knows where the client's worker and worklets are, and where this server listens. */
import { createRoom, joinRoom, lookRoom, type Room } from "@grove/client";
import captureWorkletUrl from "@grove/client/media/capture.worklet?worker&url";
import playoutWorkletUrl from "@grove/client/media/playout.worklet?worker&url";
import MediaWorker from "@grove/client/worker?worker";

const signalUrl = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/signal`;

export interface Entry {
  room: string;
  secret: string;
  name: string;
  /** What this node may send in all, bit/s; measured when null. */
  uplinkBps: number | null;
}

export const create = () => createRoom(signalUrl);
export const look = (room: string) => lookRoom(signalUrl, room);

export async function enter({ room, secret, name, uplinkBps }: Entry): Promise<Room> {
  return await joinRoom({
    signalUrl,
    room,
    secret,
    name,
    createWorker: () => new MediaWorker(),
    captureWorkletUrl,
    playoutWorkletUrl,
    ...(uplinkBps === null ? {} : { uplinkBps }),
  });
}

/** What this browser lacks for a call; null when nothing. */
export function missing(): string | null {
  if (!globalThis.isSecureContext) {
    return "This page came over plain http, and browsers allow calls only on secure pages. Open the same link with https.";
  }
  const codecs = ["VideoEncoder", "VideoDecoder", "AudioEncoder", "AudioDecoder"].every((name) => name in globalThis);
  const links = "RTCPeerConnection" in globalThis && "RTCDataChannel" in globalThis;
  const drawing = "transferControlToOffscreen" in HTMLCanvasElement.prototype && "AudioWorkletNode" in globalThis;
  if (codecs && links && drawing) return null;
  return "This browser cannot take part: it has no access to video codecs. Open the link in a current Chrome, Edge or Firefox.";
}
