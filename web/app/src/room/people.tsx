/** Who is here, with what they show and how well they arrive. */
import type { Person } from "@grove/client/api";
import { Hand, Mic, MicOff, Route, ShieldAlert, Video, VideoOff, WifiOff } from "lucide";
import type { Call } from "../state/call.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Icon } from "../ui/icon.tsx";
import { SidePanel } from "./panel.tsx";
import { QualityBars } from "./tile.tsx";

export function PeoplePanel({ call }: { call: Call }) {
  const { others, sending } = call.state.value;
  return (
    <SidePanel call={call} title="People">
      <ul class="people">
        <li class="person">
          <Avatar name={call.entry.name} size={36} />
          <div class="person-what">
            <span class="person-name">{call.entry.name} (you)</span>
          </div>
          <Marks microphone={sending.microphone === "on"} camera={sending.camera === "on"} hand={call.hand.value} />
        </li>
        {others.map((person) => (
          <Row key={person.node} person={person} />
        ))}
      </ul>
      {others.length === 0 && <p class="empty">Nobody else is here yet. Copy the link below and send it.</p>}
    </SidePanel>
  );
}

function Row({ person }: { person: Person }) {
  const { name, presence, quality, verified, connected, streams, way } = person;
  return (
    <li class="person">
      <Avatar name={name} size={36} />
      <div class="person-what">
        <span class="person-name">{name}</span>
        {!verified && (
          <span class="person-note bad">
            <Icon of={ShieldAlert} size={14} /> Not verified: came with another key. Nothing from here can be opened.
          </span>
        )}
        {verified && !connected && (
          <span class="person-note">
            <Icon of={WifiOff} size={14} /> Away from the server, coming back.
          </span>
        )}
        {verified && streams.length > 0 && quality.level !== "unknown" && (
          <span class="person-note">
            <QualityBars quality={quality} /> <span>{quality.words}</span>
          </span>
        )}
        {verified && way !== null && (
          <span class="person-note">
            <Icon of={Route} size={14} /> <span>{way}</span>
          </span>
        )}
      </div>
      <Marks {...presence} />
    </li>
  );
}

function Marks({ microphone, camera, hand }: { microphone: boolean; camera: boolean; hand: boolean }) {
  return (
    <span class="person-marks">
      {hand && <Icon of={Hand} size={18} label="Hand raised" />}
      <Icon of={microphone ? Mic : MicOff} size={18} label={microphone ? "Microphone on" : "Muted"} />
      <Icon of={camera ? Video : VideoOff} size={18} label={camera ? "Camera on" : "Camera off"} />
    </span>
  );
}
