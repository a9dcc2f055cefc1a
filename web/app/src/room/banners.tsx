/** What is wrong now, above the stage. Never in the way of the call, and never of leaving it. */
import { Info, MicOff, TriangleAlert, Volume2, WifiOff, X } from "lucide";
import type { Call } from "../state/call.ts";
import { Icon } from "../ui/icon.tsx";

/** More than these at a time are not read anyway. */
const NOTICES_SHOWN = 2;

export function Banners({ call }: { call: Call }) {
  const interrupted = call.interrupted();
  const { notices, connection } = call.state.value;
  const trouble = call.ownTrouble.value;
  return (
    <div class="banners" role="status">
      {connection.state === "joining" && (
        <div class="notice">
          <Icon of={Info} size={18} />
          <div>Going into the room…</div>
        </div>
      )}
      {interrupted !== null && (
        <div class="notice warn">
          <Icon of={WifiOff} size={18} />
          <div>
            <strong>The connection to the server is away.</strong> The call goes on between the browsers.{" "}
            <span class="tabular" aria-hidden="true">
              {countdown(interrupted.retryAtMs - call.clock.value)}
            </span>
          </div>
        </div>
      )}
      {call.mutedButTalking.value && (
        <div class="notice">
          <Icon of={MicOff} size={18} />
          <div>You are muted, and seem to be talking.</div>
          <button type="button" class="button small" onClick={() => void call.toggleMicrophone()}>
            Unmute
          </button>
        </div>
      )}
      {call.microphoneSilent.value && (
        <div class="notice warn">
          <Icon of={MicOff} size={18} />
          <div>No sound comes from your microphone. Is it switched on, and is it the right one?</div>
        </div>
      )}
      {trouble !== null && (
        <div class="notice warn">
          <Icon of={TriangleAlert} size={18} />
          <div>{trouble}</div>
          <button
            type="button"
            class="icon-button"
            aria-label="Dismiss"
            onClick={() => {
              call.ownTrouble.value = null;
            }}
          >
            <Icon of={X} size={18} />
          </button>
        </div>
      )}
      {notices.slice(0, NOTICES_SHOWN).map((notice) => (
        <div key={notice.id} class={`notice ${notice.severity}`}>
          <Icon of={notice.id === "sound" ? Volume2 : notice.severity === "info" ? Info : TriangleAlert} size={18} />
          <div>{notice.text}</div>
          {notice.id === "sound" && (
            <button type="button" class="button small primary" onClick={() => void call.room.resumeSound()}>
              Turn on sound
            </button>
          )}
        </div>
      ))}
    </div>
  );
}

function countdown(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  return seconds > 0 ? `Next try in ${seconds} s.` : "Trying now…";
}
