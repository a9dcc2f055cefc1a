/** Single keys, while no field has the focus. They can be switched off in the help (WCAG 2.1.4). */
import { useEffect } from "preact/hooks";
import type { Call } from "../state/call.ts";
import { shortcuts } from "../state/settings.ts";

/** What the help shows, in this order. */
export const SHORTCUTS: readonly { key: string; does: string }[] = [
  { key: "M", does: "Mute or unmute" },
  { key: "V", does: "Start or stop video" },
  { key: "Space", does: "Hold to talk while muted" },
  { key: "R", does: "Raise or lower your hand" },
  { key: "C", does: "Open or close the chat" },
  { key: "P", does: "Open or close the list of people" },
  { key: "T", does: "Open or close the trees" },
  { key: "?", does: "Show this help" },
];

export function useShortcuts(call: Call, help: () => void): void {
  useEffect(() => {
    const down = (event: KeyboardEvent) => {
      if (!shortcuts.peek() || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
      if (document.querySelector("dialog[open]") !== null || writes(event.target)) return;
      if (event.key === " ") {
        // On a button the space bar presses the button.
        if (event.target instanceof Element && event.target.closest("button, a, summary, [role=button]")) return;
        event.preventDefault();
        call.talk(true);
        return;
      }
      if (!act(call, event.key.toLowerCase(), help)) return;
      event.preventDefault();
    };
    const up = (event: KeyboardEvent) => {
      if (event.key === " ") call.talk(false);
    };
    const away = () => call.talk(false);
    addEventListener("keydown", down);
    addEventListener("keyup", up);
    addEventListener("blur", away);
    return () => {
      removeEventListener("keydown", down);
      removeEventListener("keyup", up);
      removeEventListener("blur", away);
    };
  }, [call]);
}

function act(call: Call, key: string, help: () => void): boolean {
  switch (key) {
    case "m":
      void call.toggleMicrophone();
      return true;
    case "v":
      void call.toggleCamera();
      return true;
    case "r":
      call.toggleHand();
      return true;
    case "c":
      call.toggle("chat");
      return true;
    case "p":
      call.toggle("people");
      return true;
    case "t":
      call.toggle("trees");
      return true;
    case "?":
      help();
      return true;
    default:
      return false;
  }
}

function writes(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest("input:not([type=radio]), textarea, select") !== null;
}
