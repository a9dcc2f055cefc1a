import { ArrowRight, History, Lock, Network, X } from "lucide";
import { useEffect, useId, useState } from "preact/hooks";
import { navigate } from "../router.ts";
import { parseLink, type RoomLink, roomPath } from "../state/link.ts";
import { forgetRoom, recentRooms } from "../state/settings.ts";
import { Icon } from "../ui/icon.tsx";
import { Shell } from "./shell.tsx";
import { StartRoom } from "./start-room.tsx";

export function Home() {
  useEffect(() => {
    document.title = "Grove";
  }, []);
  return (
    <Shell>
      <div class="home">
        <h1>Meet under the trees</h1>
        <p class="lead">
          Video rooms that go from browser to browser. Nothing to install, no account, and nobody in between can look
          in.
        </p>
        <StartRoom />
        <JoinWithLink />
        <Recent />
        <ul class="promises">
          <li>
            <Icon of={Lock} size={16} /> End-to-end encrypted. The key is in the link, and this server never sees it.
          </li>
          <li>
            <Icon of={Network} size={16} /> Each picture travels along a tree of browsers, which you can watch live.
          </li>
        </ul>
      </div>
    </Shell>
  );
}

function JoinWithLink() {
  const [text, setText] = useState("");
  const [link, setLink] = useState<RoomLink | null>(null);
  const id = useId();
  const hint = useId();
  const submit = (event: Event) => {
    event.preventDefault();
    const read = parseLink(text, location.origin);
    if (read.kind === "room") navigate(roomPath(read.room, read.secret));
    else setLink(read);
  };
  return (
    <form class="join-link" onSubmit={submit}>
      <label for={id}>Join with a link</label>
      <div class="field-row">
        <input
          id={id}
          type="text"
          inputMode="url"
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
          placeholder={`${location.origin}/r/…#…`}
          value={text}
          aria-describedby={hint}
          aria-invalid={link !== null}
          onInput={(event) => {
            setText(event.currentTarget.value);
            setLink(null);
          }}
        />
        <button type="submit" class="button">
          Join <Icon of={ArrowRight} size={18} />
        </button>
      </div>
      <div id={hint} role="status">
        {link !== null && <p class="trouble">{linkTrouble(link)}</p>}
        {link?.kind === "elsewhere" && (
          <p>
            <a href={link.href} rel="noreferrer">
              Open it on {link.host}
            </a>
          </p>
        )}
      </div>
    </form>
  );
}

/** What is wrong with a link, and what to do. */
export function linkTrouble(link: RoomLink): string {
  switch (link.kind) {
    case "room":
      return "";
    case "no_secret":
      return "This link lacks its last part, the one behind the #. It is the key to the room: ask for the whole link.";
    case "bad_secret":
      return "The last part of this link, behind the #, was cut or changed. It is the key to the room: ask for the link again.";
    case "elsewhere":
      return "This link leads to a room on another server.";
    case "not_a_link":
      return `This is not a link to a room. It should look like ${location.origin}/r/… and end with # and a key.`;
  }
}

function Recent() {
  const rooms = recentRooms.value;
  if (rooms.length === 0) return null;
  const when = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  return (
    <section class="recent" aria-labelledby="recent-heading">
      <h2 id="recent-heading">
        <Icon of={History} size={18} /> Rooms you were in
      </h2>
      <ul>
        {rooms.map((entry) => (
          <li key={entry.room}>
            <a
              href={roomPath(entry.room, entry.secret)}
              onClick={(event) => {
                event.preventDefault();
                navigate(roomPath(entry.room, entry.secret));
              }}
            >
              <span class="room-short">Room {entry.room.slice(0, 6)}</span>
              <span class="muted">{when.format(entry.atMs)}</span>
            </a>
            <button
              type="button"
              class="icon-button"
              aria-label={`Forget room ${entry.room.slice(0, 6)}`}
              title="Forget this room"
              onClick={() => forgetRoom(entry.room)}
            >
              <Icon of={X} size={18} />
            </button>
          </li>
        ))}
      </ul>
      <p class="muted small">
        Only this browser knows this list. A room ends some time after the last person has left.
      </p>
    </section>
  );
}
