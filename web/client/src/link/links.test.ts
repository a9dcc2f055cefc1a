import { afterEach, expect, test, vi } from "vitest";
import { Links, type LinksHost } from "./links.ts";

/** As much of a peer connection as a link that never comes up asks for. */
class Connection {
  localDescription = null;
  remoteDescription = null;
  createDataChannel(): object {
    return {};
  }
  close(): void {}
}

afterEach(() => void vi.unstubAllGlobals());

test("what came late for links that are gone does not keep out what comes early for new ones", async () => {
  vi.stubGlobal("RTCPeerConnection", Connection);
  const verified: number[] = [];
  const host: LinksHost = {
    describe: () => {},
    candidate: () => {},
    sign: async () => null,
    verify: async (peer) => {
      verified.push(peer);
      return false;
    },
    trusted: async () => true,
    opened: () => {},
    closed: () => {},
    lost: () => {},
    state: () => {},
  };
  const links = new Links(host);
  for (let gone = 0; gone < 200; gone++) links.candidate(gone, { candidate: "candidate:1", mid: "0" });
  links.description(500, "offer", "a=ice-ufrag:abcd\r\n", "signature");
  links.order(500, false);
  await vi.waitFor(() => expect(verified).toEqual([500]));
  links.close();
});
