/** Before joining: how one looks and sounds, with which devices, under which name, and who is already there. */
import { Mic, MicOff, Video, VideoOff, Volume2 } from "lucide";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { list } from "../room/sentences.ts";
import { look } from "../state/client.ts";
import { type Device, type Failure, failureWords, told } from "../state/failure.ts";
import { type Capture, LocalMedia } from "../state/media.ts";
import { LevelMeter, playTestTone } from "../state/meter.ts";
import { name, speakerId, wantCamera, wantMicrophone } from "../state/settings.ts";
import { Avatar } from "../ui/avatar.tsx";
import { DeviceChoice } from "../ui/device-choice.tsx";
import { Icon } from "../ui/icon.tsx";
import { Meter } from "../ui/meter.tsx";
import { CameraVideo } from "../ui/video.tsx";
import { Shell } from "./shell.tsx";
import { StartRoom } from "./start-room.tsx";

interface BeforeProps {
  room: string;
  media: LocalMedia;
  joining: boolean;
  suggestedName: string | null;
  onJoin: (name: string) => void;
}

export function Before({ room, media, joining, suggestedName, onJoin }: BeforeProps) {
  const [draft, setDraft] = useState(suggestedName ?? name.peek());
  const [nameless, setNameless] = useState(false);
  const [asked, setAsked] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const nameId = useId();
  const hint = useId();
  const company = useCompany(room);
  const camera = media.camera.value;
  const microphone = media.microphone.value;

  useEffect(() => {
    document.title = "Before you join · Grove";
    field.current?.focus({ preventScroll: true });
    // Only what the browser allows without a question starts by itself.
    void LocalMedia.granted().then(async (granted) => {
      if (granted.camera || granted.microphone) setAsked(true);
      if (granted.camera && wantCamera.peek()) await media.start("camera");
      if (granted.microphone && wantMicrophone.peek()) await media.start("microphone");
    });
  }, [media]);

  const submit = (event: Event) => {
    event.preventDefault();
    const trimmed = draft.trim().slice(0, 64);
    if (trimmed === "") {
      setNameless(true);
      field.current?.focus();
      return;
    }
    name.value = trimmed;
    onJoin(trimmed);
  };

  const turnOn = async () => {
    setAsked(true);
    wantCamera.value = true;
    wantMicrophone.value = true;
    await media.startBoth();
  };

  if (company.state === "ended") {
    return (
      <Shell>
        <div class="card centered">
          <h1>This room has ended</h1>
          <p class="muted">Everybody left some time ago. A new room takes one click; send its link to the others.</p>
          <StartRoom text="Start a new room" />
        </div>
      </Shell>
    );
  }

  const untouched = !asked && camera.state === "off" && microphone.state === "off";
  return (
    <Shell wide>
      <div class="before">
        <div class="preview-column">
          <section class="preview" aria-label="How others will see you">
            {camera.state === "on" ? (
              <CameraVideo stream={camera.stream} label="Your camera" />
            ) : (
              <div class="preview-empty">
                <Avatar name={draft || "?"} size={96} />
                {untouched ? (
                  <>
                    <p>Others will neither see nor hear you yet.</p>
                    <button type="button" class="button primary turn-on" onClick={() => void turnOn()}>
                      <Icon of={Video} /> Turn on camera and microphone
                    </button>
                  </>
                ) : (
                  <p>{camera.state === "asking" ? "Waiting for your browser's permission…" : "Your camera is off."}</p>
                )}
              </div>
            )}
            <div class="preview-controls">
              <DeviceToggle media={media} device="microphone" capture={microphone} onAsk={() => setAsked(true)} />
              <DeviceToggle media={media} device="camera" capture={camera} onAsk={() => setAsked(true)} />
            </div>
          </section>
          <SoundCheck microphone={microphone} />
          <div role="status">
            <Failures
              camera={camera}
              microphone={microphone}
              onRetry={(device) => void (device === "both" ? media.startBoth() : media.start(device))}
            />
          </div>
        </div>
        <form class="card join-form" onSubmit={submit}>
          <h1>Ready to join?</h1>
          <p class="company" role="status">
            {companyWords(company)}
          </p>
          <div class="choice">
            <label for={nameId}>Your name</label>
            <input
              id={nameId}
              ref={field}
              type="text"
              maxLength={64}
              autocomplete="name"
              placeholder="What others call you"
              value={draft}
              aria-invalid={nameless}
              aria-describedby={nameless ? hint : undefined}
              onInput={(event) => {
                setDraft(event.currentTarget.value);
                setNameless(false);
              }}
            />
            {nameless && (
              <p id={hint} class="trouble">
                Others need something to call you. A first name will do.
              </p>
            )}
          </div>
          <DeviceChoices media={media} />
          <button type="submit" class="button primary large" disabled={joining}>
            {joining ? "Joining…" : "Join"}
          </button>
          {camera.state !== "on" && microphone.state !== "on" && (
            <p class="muted small">You join without camera and microphone. You can turn them on later.</p>
          )}
          <p class="muted small">End-to-end encrypted: only people with this link can see and hear you.</p>
        </form>
      </div>
    </Shell>
  );
}

interface DeviceToggleProps {
  media: LocalMedia;
  device: "camera" | "microphone";
  capture: Capture;
  onAsk: () => void;
}

function DeviceToggle({ media, device, capture, onAsk }: DeviceToggleProps) {
  const on = capture.state === "on";
  const icon = device === "camera" ? (on ? Video : VideoOff) : on ? Mic : MicOff;
  const toggle = async () => {
    (device === "camera" ? wantCamera : wantMicrophone).value = !on;
    if (on) {
      media.stop(device);
      return;
    }
    onAsk();
    await media.start(device);
  };
  const title = device === "camera" ? "Camera" : "Microphone";
  return (
    <button
      type="button"
      class={`round ${on ? "on" : "off"}`}
      aria-label={title}
      aria-pressed={on}
      title={on ? `Turn the ${device} off` : `Turn the ${device} on`}
      disabled={capture.state === "asking"}
      onClick={() => void toggle()}
    >
      <Icon of={icon} />
    </button>
  );
}

function SoundCheck({ microphone }: { microphone: Capture }) {
  const track = microphone.state === "on" ? microphone.track : null;
  const [meter, setMeter] = useState<LevelMeter | null>(null);
  useEffect(() => {
    if (track === null) return;
    const made = new LevelMeter(track);
    setMeter(made);
    return () => {
      setMeter(null);
      made.close();
    };
  }, [track]);
  const level = meter?.level.value ?? 0;
  const words =
    microphone.state !== "on"
      ? "The microphone is off."
      : meter?.silent.value
        ? "No sound comes from your microphone. Is it switched on, and is it the right one?"
        : "Say something: the bar should move.";
  return (
    <div class="sound-check">
      <Icon of={microphone.state === "on" ? Mic : MicOff} size={18} />
      <Meter level={level} />
      <span class="muted small">{words}</span>
    </div>
  );
}

function Failures(props: { camera: Capture; microphone: Capture; onRetry: (device: Device | "both") => void }) {
  const failures: Failure[] = [];
  if (props.camera.state === "failed") failures.push(props.camera.failure);
  if (props.microphone.state === "failed") failures.push(props.microphone.failure);
  return (
    <>
      {told(failures).map((failure) => {
        const { what, how } = failureWords(failure);
        const retry = failure.kind !== "insecure" && failure.kind !== "unsupported";
        return (
          <div class="notice warn" key={failure.device}>
            <Icon of={failure.device === "microphone" ? MicOff : VideoOff} size={18} />
            <div>
              <strong>{what}</strong> {how}
            </div>
            {retry && (
              <button type="button" class="button small" onClick={() => props.onRetry(failure.device)}>
                Try {failure.device === "both" ? "both" : `the ${failure.device}`} again
              </button>
            )}
          </div>
        );
      })}
    </>
  );
}

/** Camera, microphone and speaker; empty until the browser tells their names. */
function DeviceChoices({ media }: { media: LocalMedia }) {
  const { cameras, microphones, speakers } = media.devices.value;
  const [tone, setTone] = useState(false);
  if (cameras.length + microphones.length === 0) return null;
  const test = () => {
    setTone(true);
    void playTestTone(speakerId.peek());
    setTimeout(() => setTone(false), 1000);
  };
  return (
    <>
      <DeviceChoice media={media} kind="microphone" icon={Mic} onChange={(id) => void media.choose("microphone", id)} />
      <DeviceChoice media={media} kind="camera" icon={Video} onChange={(id) => void media.choose("camera", id)} />
      {speakers.length > 0 && (
        <div class="with-button">
          <DeviceChoice
            media={media}
            kind="speaker"
            icon={Volume2}
            onChange={(id) => {
              speakerId.value = id;
            }}
          />
          <button type="button" class="button" disabled={tone} onClick={test}>
            {tone ? "Playing…" : "Test"}
          </button>
        </div>
      )}
    </>
  );
}

type Company =
  | { state: "looking" }
  | { state: "known"; names: string[]; count: number }
  | { state: "ended" }
  | { state: "unreachable"; message: string };

/** How often the door asks who is inside. */
const LOOK_EVERY_MS = 5000;

function useCompany(room: string): Company {
  const [company, setCompany] = useState<Company>({ state: "looking" });
  useEffect(() => {
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = async () => {
      const answer = await look(room);
      if (over) return;
      if (answer.ok) setCompany({ state: "known", names: answer.names, count: answer.count });
      else if (answer.code === "no_such_room") setCompany({ state: "ended" });
      else setCompany({ state: "unreachable", message: answer.message });
      timer = setTimeout(ask, LOOK_EVERY_MS);
    };
    void ask();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [room]);
  return company;
}

/** At most this many names are spelled out. */
const NAMES_SHOWN = 4;

function companyWords(company: Company): string {
  switch (company.state) {
    case "looking":
      return "Looking who is here…";
    case "ended":
      return "";
    case "unreachable":
      return `${company.message} You can try to join all the same.`;
    case "known": {
      if (company.count === 0) return "Nobody is here yet. You are the first.";
      const shown = company.names.slice(0, NAMES_SHOWN);
      const more = company.count - shown.length;
      const names = more > 0 ? `${shown.join(", ")} and ${more} more` : list(shown);
      return `${names} ${company.count === 1 ? "is" : "are"} here.`;
    }
  }
}
