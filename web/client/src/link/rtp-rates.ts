/**
 * How an RTP sender's layers share what is left of the uplink. Two congestion controls run on one uplink (the sender's
 * own, and that of the data channels to other children), so the sender is held below what the others were allotted.
 * Pure.
 */

/** What the lowest layer gets at least, bit/s: a picture at less is not worth its frames. */
const LEAST_BPS = 50_000;
/** An upper layer that would get less than this part of its order is not sent. */
const WORTH_SENDING = 0.35;

/**
 * The most that each layer may take, bit/s, lowest first; 0: not sent. `ordered`: what the layers would take; `uplink`
 * null: not known, and then the sender's own congestion control decides alone; `allotted`: to children by other ways;
 * `audio`: what sound takes.
 */
export function layerRates(
  ordered: readonly number[],
  { uplink, allotted, audio }: { uplink: number | null; allotted: number; audio: number },
): number[] {
  if (uplink === null) return [...ordered];
  let left = uplink - allotted - audio;
  return ordered.map((bps, layer) => {
    const most = layer === 0 ? Math.min(bps, Math.max(left, LEAST_BPS)) : Math.min(bps, left);
    if (layer > 0 && most < bps * WORTH_SENDING) return 0;
    left -= most;
    return Math.round(most);
  });
}
