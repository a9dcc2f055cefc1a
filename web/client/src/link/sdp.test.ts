import { expect, test } from "vitest";
import { dtlsFingerprint } from "../frame/mail.ts";
import { candidateUfrag, iceUfrag, nameOffer, nameSession, splitAnswer } from "./sdp.ts";

const chromium = [
  "v=0",
  "o=- 4611731400430051336 2 IN IP4 127.0.0.1",
  "s=-",
  "t=0 0",
  "a=group:BUNDLE 0",
  "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
  "c=IN IP4 0.0.0.0",
  "a=ice-ufrag:8hhY",
  "a=ice-pwd:asd88fgpdd777uzjYhagZg",
  "a=fingerprint:sha-256 7b:8b:f0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08",
  "a=setup:actpass",
  "a=mid:0",
  "",
].join("\r\n");

test("the ICE user name is read from the media section", () => {
  expect(iceUfrag(chromium)).toBe("8hhY");
  expect(iceUfrag("v=0\r\n")).toBeNull();
});

test("an answer that names its offer gives both back, and the browser sees neither more nor less", () => {
  const answer = nameOffer(chromium, "Ab+/");
  expect(splitAnswer(answer)).toEqual({ offerUfrag: "Ab+/", sdp: chromium });
  expect(splitAnswer(chromium)).toEqual({ offerUfrag: null, sdp: chromium });
});

test("naming the offer does not change what is signed", () => {
  const digest = "7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08";
  expect(dtlsFingerprint(chromium)).toBe(`sha-256 ${digest}`);
  expect(dtlsFingerprint(nameOffer(chromium, "Ab+/"))).toBe(`sha-256 ${digest}`);
});

test("a candidate names its session once", () => {
  const bare = "candidate:0 1 UDP 2122252543 10.0.0.1 50000 typ host";
  const named = nameSession(bare, "8hhY");
  expect(named).toBe(`${bare} ufrag 8hhY`);
  expect(nameSession(named, "other")).toBe(named);
  expect(candidateUfrag(named)).toBe("8hhY");
  expect(candidateUfrag(bare)).toBeNull();
});
