/**
 * How willing this device is to carry other people's streams: what the browser tells of page, battery and network, and the
 * person's own switch. What a browser does not tell is left out, not guessed.
 */
import type { Battery, Report } from "../signal/messages.ts";

export type Willingness = Pick<Report, "hidden" | "battery" | "metered" | "passes_on">;

/** The part of the Battery Status API that is used; Chromium has it. */
interface BatteryManager extends EventTarget {
  readonly charging: boolean;
  readonly level: number;
}

/** The part of the Network Information API that is used; Chromium has it, and `type` on phones only. */
export interface NetworkInformation {
  readonly saveData?: boolean;
  readonly type?: string;
}

/** Are bytes counted or dear? Null where the browser says nothing of it. */
export function metered(connection: NetworkInformation | undefined): boolean | null {
  if (connection?.saveData === true) return true;
  if (connection?.type === undefined) return connection?.saveData === undefined ? null : false;
  return connection.type === "cellular";
}

/** The battery as the protocol has it; null for what is none. */
export function batteryOf(battery: Pick<BatteryManager, "charging" | "level">): Battery | null {
  const { charging, level } = battery;
  return typeof charging === "boolean" && level >= 0 && level <= 1 ? { charging, level } : null;
}

/** Asks the browser, and keeps what it says of its battery. */
export class Device {
  #battery: BatteryManager | null = null;

  constructor() {
    const { getBattery } = navigator as { getBattery?: () => Promise<BatteryManager> };
    // Refused where a page is not allowed to know: then it is not known.
    getBattery?.call(navigator).then(
      (battery) => {
        this.#battery = battery;
      },
      () => {},
    );
  }

  /** What it is like now. */
  read(): Omit<Willingness, "passes_on"> {
    const battery = this.#battery && batteryOf(this.#battery);
    const counted = metered((navigator as { connection?: NetworkInformation }).connection);
    return {
      hidden: document.hidden,
      ...(battery === null ? {} : { battery }),
      ...(counted === null ? {} : { metered: counted }),
    };
  }
}
