/** Real browsers, headless, with cameras and microphones that need no hardware. */
import { existsSync } from "node:fs";
import puppeteer, { type Browser } from "puppeteer-core";
import { killFamily } from "./processes.ts";
import { NotRun, type Pulse } from "./pulse.ts";
import { within } from "./wait.ts";

/** Keep hidden tabs at full speed; puppeteer adds these by itself. */
const NEVER_THROTTLE = [
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
];

/**
 * Cameras of one browser. Each page takes one of its own, as people do: with four pages on one fake camera Chromium
 * has been seen to stop it for all of them.
 */
export const CAMERAS = 10;

export interface ChromiumOptions {
  /** Leave hidden tabs to the browser's own rules. */
  throttleHidden?: boolean;
  /** `fake`: moving picture and a beep each second; `file`: this WAV as microphone; `real`: what the system has. */
  devices?: "fake" | "real" | { file: string };
  /** Sound goes here. */
  sound?: Pulse;
}

export async function launchChromium(options: ChromiumOptions = {}): Promise<Browser> {
  const devices = options.devices ?? "fake";
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    // Sound must play for echo cancellation and energy checks, and where asked, hidden tabs must be throttled.
    ignoreDefaultArgs: ["--mute-audio", ...(options.throttleHidden ? NEVER_THROTTLE : [])],
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--use-fake-ui-for-media-stream",
      "--autoplay-policy=no-user-gesture-required",
      "--allow-loopback-in-peer-connection",
      ...(devices === "real" ? [] : [`--use-fake-device-for-media-stream=device-count=${CAMERAS},fps=20`]),
      ...(typeof devices === "object" ? [`--use-file-for-fake-audio-capture=${devices.file}`] : []),
    ],
    env: { ...process.env, ...options.sound?.environment },
  });
  return browser;
}

/** Firefox, with sound on `sound` (without a device its audio contexts never run). Ends with {@link endBrowser}. */
export async function launchFirefox(options: { sound: Pulse; fakeDevices?: boolean }): Promise<Browser> {
  const path = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
  if (!existsSync(path)) throw new NotRun(`Firefox is not installed at ${path}`);
  const launched = puppeteer.launch({
    browser: "firefox",
    executablePath: path,
    headless: true,
    timeout: 30_000,
    protocolTimeout: 20_000,
    extraPrefsFirefox: {
      "media.navigator.streams.fake": options.fakeDevices ?? true,
      "media.navigator.permission.disabled": true,
      "media.autoplay.default": 0,
      "media.autoplay.blocking_policy": 0,
      "media.peerconnection.ice.obfuscate_host_addresses": false,
      "focusmanager.testmode": true,
    },
    env: { ...process.env, ...options.sound.environment },
  });
  return within(40_000, "Firefox starts", launched);
}

/** Close a browser; one that does not answer is killed with its children. */
export async function endBrowser(browser: Browser | null | undefined): Promise<void> {
  if (!browser) return;
  const pid = browser.process()?.pid;
  await within(5000, "the browser closes", browser.close()).catch(() => undefined);
  if (pid) killFamily(pid);
}
