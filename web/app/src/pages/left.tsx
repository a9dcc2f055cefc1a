import { DoorOpen, RotateCcw } from "lucide";
import { useEffect } from "preact/hooks";
import { Icon } from "../ui/icon.tsx";
import { Shell } from "./shell.tsx";
import { StartRoom } from "./start-room.tsx";

/** Why a call is over. `left`: the person went; the other ones are told by the client. */
export type WhyLeft = "left" | "room_ended" | "failed";

const WORDS: Record<Exclude<WhyLeft, "failed">, string> = {
  left: "Camera and microphone are off.",
  room_ended: "Everybody left some time ago. A new room takes one click; send its link to the others.",
};

interface LeftProps {
  why: WhyLeft;
  message: string;
  onRejoin: () => void;
}

export function Left({ why, message, onRejoin }: LeftProps) {
  const title =
    why === "left" ? "You left the room" : why === "room_ended" ? "This room has ended" : "The call was interrupted";
  useEffect(() => {
    document.title = `${title} · Grove`;
  }, [title]);
  return (
    <Shell>
      <div class="card centered">
        <Icon of={DoorOpen} size={32} />
        <h1>{title}</h1>
        <p class="muted">{why === "failed" ? message : WORDS[why]}</p>
        {why !== "room_ended" && (
          <button type="button" class="button primary large" onClick={onRejoin} autofocus>
            <Icon of={RotateCcw} /> {why === "left" ? "Come back in" : "Try again"}
          </button>
        )}
        {why === "room_ended" ? (
          <StartRoom text="Start a new room" />
        ) : (
          <a class="button quiet" href="/">
            Go to the start page
          </a>
        )}
      </div>
    </Shell>
  );
}
