/** The client's public types, as tests see them. */
export type { OrderLog, Room, RoomState } from "../../client/src/api.ts";
export type { Order, Policy, RelayLink, StreamRef } from "../../client/src/signal/messages.ts";
export type { TraceRecord } from "../../client/src/transport/trace.ts";
export type { IncomingStats, WorkerStats } from "../../client/src/worker/messages.ts";
