/**
 * A room's address. Leads from the door through the call to what comes after it.
 *
 * Query parameters, for tests and for people who make links: `?name=Ana` fills in the name; `&join` goes in without the
 * page in between; `&camera=0` and `&microphone=0` leave a device off; `&uplink=2000000` says what this browser may
 * send, bit/s, instead of measuring it. While in a call the client's room is at `globalThis.groveRoom`, for diagnosis
 * and tests.
 */
import type { Room } from "@grove/client/api";
import { KeyRound } from "lucide";
import { useEffect, useRef, useState } from "preact/hooks";
import { CallView } from "../room/call-view.tsx";
import { place } from "../router.ts";
import { Call } from "../state/call.ts";
import { missing } from "../state/client.ts";
import { readRoom } from "../state/link.ts";
import { LocalMedia } from "../state/media.ts";
import { name, rememberRoom } from "../state/settings.ts";
import { Icon } from "../ui/icon.tsx";
import { Before } from "./before.tsx";
import { linkTrouble } from "./home.tsx";
import { Left, type WhyLeft } from "./left.tsx";
import { Shell } from "./shell.tsx";
import { StartRoom } from "./start-room.tsx";

declare global {
  var groveRoom: Room | undefined;
}

type Phase =
  | { at: "door" }
  | { at: "joining" }
  | { at: "call"; call: Call }
  | { at: "left"; why: WhyLeft; message: string };

export function RoomPage({ room, hash }: { room: string; hash: string }) {
  const link = readRoom(room, hash);
  const lacking = missing();
  if (link.kind !== "room") {
    return (
      <Problem title="The link is not whole">
        <p>{linkTrouble(link)}</p>
      </Problem>
    );
  }
  if (lacking !== null) {
    return (
      <Problem title="This browser cannot join">
        <p>{lacking}</p>
      </Problem>
    );
  }
  return <OpenRoom room={link.room} secret={link.secret} />;
}

function OpenRoom({ room, secret }: { room: string; secret: string }) {
  const [phase, setPhase] = useState<Phase>({ at: "door" });
  const media = useRef<LocalMedia | null>(null);
  const current = useRef<Call | null>(null);
  const gone = useRef(false);
  const query = place.value.query;
  const uplink = Number(query.get("uplink"));
  // Once only: whoever left comes back through the door.
  const [direct, setDirect] = useState(query.has("join"));

  const door = () => {
    media.current ??= new LocalMedia();
    return media.current;
  };

  const join = async (as: string) => {
    if (gone.current) return;
    const own = door();
    setPhase({ at: "joining" });
    const uplinkBps = uplink > 0 ? uplink : null;
    const call = await Call.start({ room, secret, name: as, uplinkBps }, own);
    media.current = null;
    if (gone.current) {
      call.leave();
      return;
    }
    current.current = call;
    globalThis.groveRoom = call.room;
    rememberRoom(room, secret, Date.now());
    setDirect(false);
    setPhase({ at: "call", call });
  };

  const end = (why: WhyLeft, message: string) => {
    current.current?.leave();
    current.current = null;
    globalThis.groveRoom = undefined;
    setPhase({ at: "left", why, message });
  };

  useEffect(() => {
    const away = () => current.current?.leave();
    // A page that the browser keeps and shows again says that the call is over.
    const hide = () => {
      if (current.current !== null) end("left", "");
    };
    addEventListener("pagehide", hide);
    if (direct) void joinAtOnce(door(), query).then(() => join(query.get("name") || name.peek() || "Guest"));
    return () => {
      gone.current = true;
      removeEventListener("pagehide", hide);
      media.current?.close();
      away();
      globalThis.groveRoom = undefined;
    };
  }, []);

  switch (phase.at) {
    case "door":
    case "joining":
      if (direct) return <Problem title="Joining…" />;
      return (
        <Before
          room={room}
          media={door()}
          joining={phase.at === "joining"}
          suggestedName={query.get("name")}
          onJoin={(as) => void join(as)}
        />
      );
    case "call":
      return <CallView call={phase.call} onEnd={end} />;
    case "left":
      return <Left why={phase.why} message={phase.message} onRejoin={() => setPhase({ at: "door" })} />;
  }
}

/** Starts the devices that the address asks for, without a page in between. */
async function joinAtOnce(media: LocalMedia, query: URLSearchParams): Promise<void> {
  const camera = query.get("camera") !== "0";
  const microphone = query.get("microphone") !== "0";
  if (camera && microphone) await media.startBoth();
  else if (camera) await media.start("camera");
  else if (microphone) await media.start("microphone");
}

function Problem({ title, children }: { title: string; children?: preact.ComponentChildren }) {
  useEffect(() => {
    document.title = `${title} · Grove`;
  }, [title]);
  return (
    <Shell>
      <div class="card centered" role={children === undefined ? "status" : undefined}>
        {children !== undefined && <Icon of={KeyRound} size={32} />}
        <h1>{title}</h1>
        {children}
        {children !== undefined && <StartRoom text="Start a new room" />}
      </div>
    </Shell>
  );
}
