/** What this browser remembers between calls. Kept in localStorage; without one it lasts as long as the page. */
import { effect, type Signal, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

/** A room that this browser was in. The secret is here too: without it the entry could not open the room. */
export interface RecentRoom {
  room: string;
  secret: string;
  /** Date.now() of the last visit. */
  atMs: number;
}

const RECENT_ROOMS = 6;

function remembered<T>(key: string, initial: T, accept: (value: unknown) => value is T): Signal<T> {
  const name = `grove.${key}`;
  const value = signal(read(name, initial, accept));
  effect(() => {
    try {
      localStorage.setItem(name, JSON.stringify(value.value));
    } catch {
      // Storage is full or forbidden: the setting then lasts as long as the page.
    }
  });
  return value;
}

function read<T>(name: string, initial: T, accept: (value: unknown) => value is T): T {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(name) ?? "null");
    return accept(value) ? value : initial;
  } catch {
    return initial;
  }
}

const isText = (value: unknown): value is string => typeof value === "string";
const isFlag = (value: unknown): value is boolean => typeof value === "boolean";
const isTheme = (value: unknown): value is Theme => value === "system" || value === "light" || value === "dark";
const isRecent = (value: unknown): value is RecentRoom[] =>
  Array.isArray(value) &&
  value.every((entry) => isText(entry?.room) && isText(entry?.secret) && typeof entry?.atMs === "number");

export const name = remembered("name", "", isText);
export const cameraId = remembered("camera", "", isText);
export const microphoneId = remembered("microphone", "", isText);
export const speakerId = remembered("speaker", "", isText);
/** Join with the camera, or the microphone, running. */
export const wantCamera = remembered("wantCamera", true, isFlag);
export const wantMicrophone = remembered("wantMicrophone", true, isFlag);
/** Let other people's streams pass through this device. */
export const passOn = remembered("passOn", true, isFlag);
/** Single-key shortcuts. */
export const shortcuts = remembered("shortcuts", true, isFlag);
export const theme = remembered<Theme>("theme", "system", isTheme);
export const recentRooms = remembered<RecentRoom[]>("rooms", [], isRecent);

effect(() => {
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});

/** Puts a room at the head of the list. */
export function rememberRoom(room: string, secret: string, atMs: number): void {
  const others = recentRooms.peek().filter((entry) => entry.room !== room);
  recentRooms.value = [{ room, secret, atMs }, ...others].slice(0, RECENT_ROOMS);
}

export function forgetRoom(room: string): void {
  recentRooms.value = recentRooms.peek().filter((entry) => entry.room !== room);
}
