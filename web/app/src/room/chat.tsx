/** Text chat. Lines are text nodes and links, never markup. */
import type { ChatEntry } from "@grove/client/api";
import { SendHorizontal } from "lucide";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import type { Call } from "../state/call.ts";
import { Icon } from "../ui/icon.tsx";
import { linkify } from "./linkify.ts";
import { SidePanel } from "./panel.tsx";

/** Longest line, in characters: sealed and encoded it stays below the protocol's 8 KiB. */
const LINE_LENGTH = 2000;
/** So close to the end counts as reading along. */
const NEAR_END = 80;

export function ChatPanel({ call }: { call: Call }) {
  const { chat, me } = call.state.value;
  const [draft, setDraft] = useState("");
  const log = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const id = useId();

  useEffect(() => {
    const element = log.current;
    if (element !== null && following.current) element.scrollTop = element.scrollHeight;
  }, [chat.length]);

  const send = () => {
    const text = draft.trim();
    // Before the room has let us in, nothing can be sealed: the draft stays.
    if (text === "" || me === null) return;
    following.current = true;
    call.room.sendChat(text);
    setDraft("");
  };

  return (
    <SidePanel call={call} title="Chat">
      <div
        class="chat-log"
        role="log"
        aria-label="Messages"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        ref={log}
        onScroll={({ currentTarget: it }) => {
          following.current = it.scrollHeight - it.scrollTop - it.clientHeight < NEAR_END;
        }}
      >
        {chat.length === 0 && (
          <p class="empty">
            Nothing has been written yet. What you write is sealed: only people in this room can read it.
          </p>
        )}
        {chat.map((entry, index) => (
          <Line key={entry.id} entry={entry} follows={follows(chat[index - 1], entry)} />
        ))}
      </div>
      <form
        class="chat-form"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <label class="hidden" for={id}>
          Write a message
        </label>
        <textarea
          id={id}
          rows={1}
          maxLength={LINE_LENGTH}
          placeholder="Write a message"
          value={draft}
          onInput={(event) => setDraft(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        <button type="submit" class="icon-button send" aria-label="Send" disabled={draft.trim() === "" || me === null}>
          <Icon of={SendHorizontal} />
        </button>
      </form>
    </SidePanel>
  );
}

/** Lines of one person within five minutes stand under one name. */
function follows(before: ChatEntry | undefined, entry: ChatEntry): boolean {
  return before !== undefined && before.node === entry.node && entry.atMs - before.atMs < 5 * 60_000;
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

function Line({ entry, follows }: { entry: ChatEntry; follows: boolean }) {
  const parts = useMemo(() => linkify(entry.text ?? ""), [entry.text]);
  return (
    <div class={`line${entry.mine ? " mine" : ""}${follows ? " follows" : ""}`}>
      {!follows && (
        <p class="line-head">
          <strong>{entry.mine ? "You" : entry.name}</strong>{" "}
          <time dateTime={new Date(entry.atMs).toISOString()}>{clock.format(entry.atMs)}</time>
        </p>
      )}
      <p class={entry.text === null ? "line-text sealed" : "line-text"}>
        {entry.text === null
          ? "This line was sealed with another key and cannot be read here."
          : parts.map((part, index) =>
              part.kind === "link" ? (
                <a key={index} href={part.href} target="_blank" rel="noopener noreferrer">
                  {part.text}
                </a>
              ) : (
                part.text
              ),
            )}
      </p>
      {entry.mine && !entry.delivered && <p class="line-state">Sending…</p>}
    </div>
  );
}
