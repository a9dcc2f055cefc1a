/** The bar at the bottom: what the person does most, in thumb reach. */
import {
  Check,
  ChevronUp,
  CircleHelp,
  Ellipsis,
  Hand,
  type IconNode,
  Link2,
  MessageSquare,
  Mic,
  MicOff,
  Network,
  PhoneOff,
  Settings2,
  Users,
  Video,
  VideoOff,
  Volume2,
} from "lucide";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Call, Panel } from "../state/call.ts";
import { DeviceChoice } from "../ui/device-choice.tsx";
import { Dialog } from "../ui/dialog.tsx";
import { Icon } from "../ui/icon.tsx";
import { Popover } from "../ui/popover.tsx";
import { ThemeSwitch } from "../ui/theme-switch.tsx";
import { useCopyLink } from "./copy-link.ts";

interface BarProps {
  call: Call;
  onLeave: () => void;
  onHelp: () => void;
}

export function Bar({ call, onLeave, onHelp }: BarProps) {
  const { sending, others } = call.state.value;
  const [devices, setDevices] = useState(false);
  const { copied, copy } = useCopyLink(call);
  const microphone = sending.microphone === "on";
  const camera = sending.camera === "on";
  const unread = call.unread.value;
  const hand = call.hand.value;
  const raise = () => call.toggleHand();
  const asking = call.media.camera.value.state === "asking";
  return (
    <footer class="bar">
      <div class="bar-side start">
        <BarButton icon={copied ? Check : Link2} text={copied ? "Copied" : "Copy link"} onClick={() => void copy()} />
      </div>
      <fieldset class="bar-middle">
        <legend class="hidden">Your camera and microphone</legend>
        <div class="with-menu">
          <BarButton
            icon={microphone ? Mic : MicOff}
            text="Microphone"
            title={microphone ? "Mute (M)" : "Unmute (M)"}
            pressed={microphone}
            off={!microphone}
            onClick={() => void call.toggleMicrophone()}
          />
          <Popover
            label="Choose microphone and speaker"
            buttonClass="caret"
            button={<Icon of={ChevronUp} size={16} />}
            align="start"
          >
            {() => <SoundChoices call={call} />}
          </Popover>
        </div>
        <div class="with-menu">
          <BarButton
            icon={camera ? Video : VideoOff}
            text="Camera"
            title={asking ? "Waiting for the browser's permission" : camera ? "Stop video (V)" : "Start video (V)"}
            pressed={camera}
            off={!camera}
            onClick={() => void call.toggleCamera()}
          />
          <Popover label="Choose camera" buttonClass="caret" button={<Icon of={ChevronUp} size={16} />} align="start">
            {() => <CameraChoice call={call} />}
          </Popover>
        </div>
        <BarButton
          icon={Hand}
          text="Hand"
          title={hand ? "Lower your hand (R)" : "Raise your hand (R)"}
          pressed={hand}
          onClick={raise}
          wide
        />
        <button type="button" class="bar-button leave" onClick={onLeave}>
          <Icon of={PhoneOff} />
          <span class="bar-text">Leave</span>
        </button>
      </fieldset>
      <div class="bar-side end">
        <PanelButton call={call} panel="chat" icon={MessageSquare} text="Chat" badge={unread} badgeWord="unread" />
        <PanelButton call={call} panel="people" icon={Users} text="People" badge={others.length + 1} badgeWord="here" />
        <PanelButton call={call} panel="trees" icon={Network} text="Trees" badge={0} badgeWord="" />
        <Popover
          label="More"
          buttonClass="bar-button"
          align="end"
          button={
            <>
              <Icon of={Ellipsis} />
              <span class="bar-text">More</span>
            </>
          }
        >
          {(close) => (
            <div class="menu">
              <MenuButton icon={copied ? Check : Link2} onClick={() => void copy()}>
                {copied ? "Link copied" : "Copy the link to this room"}
              </MenuButton>
              <MenuButton
                icon={Hand}
                onClick={() => {
                  raise();
                  close();
                }}
              >
                {hand ? "Lower your hand" : "Raise your hand"}
              </MenuButton>
              <MenuButton
                icon={Settings2}
                onClick={() => {
                  close();
                  setDevices(true);
                }}
              >
                Camera, microphone and speaker
              </MenuButton>
              <MenuButton
                icon={CircleHelp}
                onClick={() => {
                  close();
                  onHelp();
                }}
              >
                Keyboard shortcuts
              </MenuButton>
              <div class="menu-row">
                <span>Colours</span> <ThemeSwitch />
              </div>
            </div>
          )}
        </Popover>
      </div>
      {devices && (
        <Dialog title="Camera, microphone and speaker" onClose={() => setDevices(false)}>
          <div class="stack">
            <SoundChoices call={call} />
            <CameraChoice call={call} />
          </div>
        </Dialog>
      )}
    </footer>
  );
}

interface BarButtonProps {
  icon: IconNode;
  text: string;
  /** What pressing it does now. */
  title?: string;
  /** For a toggle. Its name stays the same, so that the state is said once. */
  pressed?: boolean;
  off?: boolean;
  /** Shown only where there is room; the menu has it too. */
  wide?: boolean;
  onClick: () => void;
}

function BarButton({ icon, text, title, pressed, off = false, wide = false, onClick }: BarButtonProps) {
  return (
    <button
      type="button"
      class={`bar-button${off ? " off" : ""}${wide ? " only-wide" : ""}${pressed === true ? " pressed" : ""}`}
      aria-pressed={pressed}
      title={title ?? text}
      onClick={onClick}
    >
      <Icon of={icon} />
      <span class="bar-text">{text}</span>
    </button>
  );
}

interface PanelButtonProps {
  call: Call;
  panel: Panel;
  icon: IconNode;
  text: string;
  badge: number;
  badgeWord: string;
}

function PanelButton({ call, panel, icon, text, badge, badgeWord }: PanelButtonProps) {
  const open = call.panel.value === panel;
  return (
    <button
      type="button"
      class={`bar-button${open ? " pressed" : ""}`}
      aria-expanded={open}
      title={text}
      onClick={() => call.toggle(panel)}
    >
      <Icon of={icon} />
      <span class="bar-text">{text}</span>
      {badge > 0 && (
        <span class={`badge ${panel}`}>
          {badge > 99 ? "99+" : badge}
          <span class="hidden"> {badgeWord}</span>
        </span>
      )}
    </button>
  );
}

function MenuButton({ icon, onClick, children }: { icon: IconNode; onClick: () => void; children: ComponentChildren }) {
  return (
    <button type="button" class="menu-button" onClick={onClick}>
      <Icon of={icon} size={18} /> {children}
    </button>
  );
}

function SoundChoices({ call }: { call: Call }) {
  const { media } = call;
  return (
    <>
      <DeviceChoice media={media} kind="microphone" icon={Mic} onChange={(id) => void call.choose("microphone", id)} />
      {media.devices.value.speakers.length > 0 && (
        <DeviceChoice media={media} kind="speaker" icon={Volume2} onChange={(id) => void call.chooseSpeaker(id)} />
      )}
    </>
  );
}

function CameraChoice({ call }: { call: Call }) {
  return (
    <DeviceChoice media={call.media} kind="camera" icon={Video} onChange={(id) => void call.choose("camera", id)} />
  );
}
