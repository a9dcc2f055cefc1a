/** A call on the screen: top line, banners, the stage, a panel beside it, and the bar. */
import { CameraOff, Circle, Lock, LockOpen } from "lucide";
import { useEffect, useState } from "preact/hooks";
import type { WhyLeft } from "../pages/left.tsx";
import type { Call } from "../state/call.ts";
import { Dialog } from "../ui/dialog.tsx";
import { Icon } from "../ui/icon.tsx";
import { Banners } from "./banners.tsx";
import { Bar } from "./bar.tsx";
import { ChatPanel } from "./chat.tsx";
import { Help } from "./help.tsx";
import { PeoplePanel } from "./people.tsx";
import { useShortcuts } from "./shortcuts.ts";
import { Stage } from "./stage.tsx";
import { TreesPanel } from "./trees.tsx";

interface CallViewProps {
  call: Call;
  onEnd: (why: WhyLeft, message: string) => void;
}

export function CallView({ call, onEnd }: CallViewProps) {
  const { connection, others } = call.state.value;
  const [help, setHelp] = useState(false);
  const [encryption, setEncryption] = useState(false);
  const leave = () => onEnd("left", "");
  useShortcuts(call, () => setHelp(true));

  const running = call.running.value;
  useEffect(() => {
    const unread = call.unread.value > 0 ? `(${call.unread.value}) ` : "";
    document.title = running === null ? `${unread}In a room · Grove` : `● ${unread}${running} · Grove`;
  }, [running, call.unread.value]);

  useEffect(() => {
    if (connection.state !== "ended") return;
    if (connection.code === "left") onEnd("left", "");
    else if (connection.code === "no_such_room") onEnd("room_ended", connection.message);
    else onEnd("failed", connection.message);
  }, [connection.state]);

  const unverified = others.filter((person) => !person.verified).length;
  const panel = call.panel.value;
  return (
    <div class="call">
      <header class="call-head">
        <h1 class="hidden">Room</h1>
        <p class={`running ${running === null ? "idle" : ""}`}>
          <Icon of={running === null ? CameraOff : Circle} size={14} />
          <span>{running ?? "Camera and microphone off"}</span>
        </p>
        <button type="button" class="chip" aria-label="End-to-end encrypted" onClick={() => setEncryption(true)}>
          <Icon of={unverified > 0 ? LockOpen : Lock} size={14} />
          <span>End-to-end encrypted</span>
        </button>
      </header>
      <Banners call={call} />
      <main class={panel === null ? "call-main" : "call-main with-panel"}>
        <Stage call={call} />
        {panel === "chat" && <ChatPanel call={call} />}
        {panel === "people" && <PeoplePanel call={call} />}
        {panel === "trees" && <TreesPanel call={call} />}
      </main>
      <Bar call={call} onLeave={leave} onHelp={() => setHelp(true)} />
      <div class="hidden" aria-live="polite" data-testid="announcements">
        {call.announcer.text.value}
      </div>
      {help && <Help onClose={() => setHelp(false)} />}
      {encryption && <Encryption unverified={unverified} onClose={() => setEncryption(false)} />}
    </div>
  );
}

function Encryption({ unverified, onClose }: { unverified: number; onClose: () => void }) {
  return (
    <Dialog title="End-to-end encrypted" onClose={onClose}>
      <div class="prose">
        <p>
          Your browser seals picture, sound and chat before they leave it. Only browsers that opened this room with the
          whole link can open them. Those that pass your stream on, and this server, carry sealed pieces that they
          cannot read or change.
        </p>
        <p>
          The key is the part of the link behind the <code>#</code>, which browsers never send to a server. Whoever has
          the link can come in, so send it only to people you want here.
        </p>
        <p>
          The server does see who is in the room under which name, when, from which network address, and how much
          travels between whom.
        </p>
        {unverified > 0 && (
          <p class="trouble">
            {unverified === 1 ? "One person here came" : `${unverified} people here came`} without the right key, and
            can neither see nor hear anybody.
          </p>
        )}
      </div>
    </Dialog>
  );
}
