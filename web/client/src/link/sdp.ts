/**
 * The few lines of a session description that links care about; the rest is the browser's business.
 * The DTLS fingerprint is read where it is signed, in `frame/mail.ts`.
 */

/** The ICE user name fragment: it names one session of a link. */
export function iceUfrag(sdp: string): string | null {
  return /^a=ice-ufrag:([^\s]+) *\r?$/m.exec(sdp)?.[1] ?? null;
}

/** An answer that says which offer it answers, so that it cannot be taken for the answer to another one. */
export function nameOffer(answer: string, offerUfrag: string): string {
  return `${answer.endsWith("\n") ? answer : `${answer}\r\n`}a=grove-offer:${offerUfrag}\r\n`;
}

/** The user name fragment of the offer that this answer names, and the answer as the browser knows it. */
export function splitAnswer(sdp: string): { offerUfrag: string | null; sdp: string } {
  const line = /^a=grove-offer:([^\s]+)\r?\n?/m;
  return { offerUfrag: line.exec(sdp)?.[1] ?? null, sdp: sdp.replace(line, "") };
}

/** A candidate that says which session it belongs to; Chromium writes that itself, Firefox does not always. */
export function nameSession(candidate: string, ufrag: string): string {
  return candidate === "" || / ufrag \S/.test(candidate) ? candidate : `${candidate} ufrag ${ufrag}`;
}

/** The session a candidate names; null when it names none. */
export function candidateUfrag(candidate: string): string | null {
  return / ufrag (\S+)/.exec(candidate)?.[1] ?? null;
}
