import { useState } from "preact/hooks";
import type { Call } from "../state/call.ts";
import { roomPath } from "../state/link.ts";

/** How long a button says that it has copied. */
const SAID_MS = 2500;

/** Copies the whole link, key included. Where the browser refuses the clipboard, it is shown to copy by hand. */
export function useCopyLink(call: Call): { copied: boolean; copy: () => Promise<void> } {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    const link = location.origin + roomPath(call.entry.room, call.entry.secret);
    try {
      await navigator.clipboard.writeText(link);
    } catch {
      prompt("Copy the link to this room:", link);
      return;
    }
    setCopied(true);
    call.announcer.say("The link was copied.");
    setTimeout(() => setCopied(false), SAID_MS);
  };
  return { copied, copy };
}
