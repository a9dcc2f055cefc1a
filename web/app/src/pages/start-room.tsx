import { makeSecret } from "@grove/client";
import { Plus } from "lucide";
import { useState } from "preact/hooks";
import { navigate } from "../router.ts";
import { create } from "../state/client.ts";
import { roomPath } from "../state/link.ts";
import { Icon } from "../ui/icon.tsx";

/** One click: the server makes the room, the browser makes its secret, and the person is there. */
export function StartRoom({ text = "Start a room" }: { text?: string }) {
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState<string | null>(null);
  const start = async () => {
    setBusy(true);
    setTrouble(null);
    const made = await create();
    setBusy(false);
    if (made.ok) navigate(roomPath(made.room, makeSecret()));
    else setTrouble(made.message);
  };
  return (
    <div class="start-room">
      <button type="button" class="button primary large" disabled={busy} onClick={() => void start()}>
        <Icon of={Plus} /> {busy ? "Starting…" : text}
      </button>
      <div role="status">{trouble !== null && <p class="trouble">{trouble} Try again in a moment.</p>}</div>
    </div>
  );
}
