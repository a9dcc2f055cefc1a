/**
 * Relays stand in trees under numbers from the top of the range and are nobody's presence: they have no name, no identity
 * and no key. Whoever holds a number asks here which of the two it is.
 */

/** The lowest number of a relay; participants count up from 1 and never reach it. */
export const FIRST_RELAY = 65_000;

export const isRelay = (node: number): boolean => node >= FIRST_RELAY;

/** Where relays of this server are opened, beside its signalling. */
export const relayUrl = (signalUrl: string): string => signalUrl.replace(/\/signal$/, "/relay");
