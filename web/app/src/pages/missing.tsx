import { useEffect } from "preact/hooks";
import { Shell } from "./shell.tsx";
import { StartRoom } from "./start-room.tsx";

/** An address that leads nowhere. */
export function Missing() {
  useEffect(() => {
    document.title = "Nothing here · Grove";
  }, []);
  return (
    <Shell>
      <div class="card centered">
        <h1>Nothing is at this address</h1>
        <p class="muted">
          The link may have been cut on its way to you. Ask for it again, or start a room of your own.
        </p>
        <StartRoom />
      </div>
    </Shell>
  );
}
