/** The client: a room in the browser, without any user interface. `api.ts` describes it. */
export type * from "./api.ts";
export { makeSecret } from "./frame/keys.ts";
export { createRoom, joinRoom, type Looked, lookRoom } from "./room.ts";
export type { Answer } from "./signal/socket.ts";
