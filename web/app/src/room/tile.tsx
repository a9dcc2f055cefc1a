/** One tile: the picture or the initials, the name, what the microphone does, how well it arrives, and any trouble. */
import type { Person, PersonStream, Quality } from "@grove/client/api";
import { Hand, MicOff, MonitorUp, TriangleAlert } from "lucide";
import { useEffect, useRef } from "preact/hooks";
import type { Call } from "../state/call.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Icon } from "../ui/icon.tsx";
import { CameraVideo } from "../ui/video.tsx";
import { tileWords } from "./tiles.ts";

interface TileProps {
  call: Call;
  person: Person;
  stream: PersonStream | null;
  speaking: boolean;
}

export function Tile({ call, person, stream, speaking }: TileProps) {
  const { name, presence, quality } = person;
  const words = tileWords(person, stream);
  const picture = stream?.video === true && person.verified && stream.state !== "unserved";
  return (
    <article class={`tile${speaking ? " speaking" : ""}`} aria-label={tileName(person, speaking)}>
      {/* The picture covers the initials as soon as there is one. */}
      {!(picture && stream?.state === "lost") && <Avatar name={name} />}
      {picture && stream !== null && <Picture call={call} stream={stream} />}
      {words !== null && <p class="tile-words">{words}</p>}
      <div class="tile-marks">
        {presence.hand && (
          <span class="mark hand">
            <Icon of={Hand} size={16} label="Hand raised" />
          </span>
        )}
      </div>
      <div class="tile-foot">
        <span class="tile-name">
          {!presence.microphone && <Icon of={MicOff} size={14} label="Muted" />}
          <span class="ellipsis">{name}</span>
        </span>
        {stream !== null && <QualityBars quality={quality} />}
      </div>
    </article>
  );
}

export function ScreenTile({ call, person, stream }: { call: Call; person: Person; stream: PersonStream }) {
  const words = tileWords(person, stream);
  return (
    <article class="tile screen" aria-label={`Screen of ${person.name}`}>
      <Picture call={call} stream={stream} />
      {words !== null && <p class="tile-words">{words}</p>}
      <div class="tile-foot">
        <span class="tile-name">
          <Icon of={MonitorUp} size={14} /> <span class="ellipsis">Screen of {person.name}</span>
        </span>
      </div>
    </article>
  );
}

export function SelfTile({ call }: { call: Call }) {
  const { sending } = call.state.value;
  const camera = call.media.camera.value;
  const shown = camera.state === "on" && sending.camera === "on";
  const muted = sending.microphone !== "on";
  return (
    <article class="tile self" aria-label={`You${muted ? ", muted" : ""}${shown ? "" : ", camera off"}`}>
      {shown ? <CameraVideo stream={camera.stream} label="Your camera" /> : <Avatar name={call.entry.name} />}
      <div class="tile-foot">
        <span class="tile-name">
          {muted && <Icon of={MicOff} size={14} label="Muted" />}
          <span>You</span>
        </span>
      </div>
    </article>
  );
}

function tileName({ name, presence, quality }: Person, speaking: boolean): string {
  const facts = [name];
  if (speaking) facts.push("speaking");
  if (!presence.microphone) facts.push("muted");
  if (!presence.camera) facts.push("camera off");
  if (presence.hand) facts.push("hand raised");
  if (quality.level === "poor" || quality.level === "lost") facts.push(`connection ${QUALITY[quality.level].word}`);
  return facts.join(", ");
}

/** A resize in progress asks for a new layer once it has settled. */
const SETTLE_MS = 120;

/**
 * The canvas on which the media worker draws. It is made here by hand: a canvas can be given away once in its life, and
 * goes with its view.
 */
function Picture({ call, stream }: { call: Call; stream: PersonStream }) {
  const host = useRef<HTMLDivElement>(null);
  const { node, stream: number } = stream.ref;
  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    const canvas = document.createElement("canvas");
    element.append(canvas);
    const view = call.room.attach({ node, stream: number }, canvas);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const measure = () => {
      const { width, height } = element.getBoundingClientRect();
      view.resize(Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio));
    };
    measure();
    const observer = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(measure, SETTLE_MS);
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      clearTimeout(timer);
      view.close();
      canvas.remove();
    };
  }, [call, node, number]);
  const upright = stream.height > stream.width;
  return <div ref={host} class={`picture ${stream.state}${upright ? " upright" : ""}`} />;
}

const QUALITY: Record<Quality["level"], { bars: number; word: string }> = {
  good: { bars: 3, word: "good" },
  fair: { bars: 2, word: "fair" },
  poor: { bars: 1, word: "poor" },
  lost: { bars: 0, word: "lost" },
  unknown: { bars: 0, word: "not measured yet" },
};

/** Bars, and the word beside them as soon as something is wrong; the whole sentence on pointing at them. */
export function QualityBars({ quality, always = false }: { quality: Quality; always?: boolean }) {
  const { bars, word } = QUALITY[quality.level];
  const wrong = quality.level !== "good" && quality.level !== "unknown";
  return (
    <span class={`quality ${quality.level}`} title={quality.words}>
      {quality.level === "lost" ? (
        <Icon of={TriangleAlert} size={14} />
      ) : (
        <svg viewBox="0 0 14 12" width="14" height="12" aria-hidden="true">
          {[0, 1, 2].map((bar) => (
            <rect
              key={bar}
              class={bar < bars ? "lit" : ""}
              x={bar * 5}
              y={8 - bar * 4}
              width="3.5"
              height={4 + bar * 4}
            />
          ))}
        </svg>
      )}
      {wrong || always ? <span>{word}</span> : <span class="hidden">Connection {word}</span>}
    </span>
  );
}
