import { Check, Link2 } from "lucide";
import type { Call } from "../state/call.ts";
import { Icon } from "../ui/icon.tsx";
import { useCopyLink } from "./copy-link.ts";

/** Nobody else is here: the next thing to do is to send the link. */
export function Alone({ call }: { call: Call }) {
  const { copied, copy } = useCopyLink(call);
  return (
    <div class="alone">
      <p>
        <strong>Nobody else is here yet.</strong> Send them the link; it is all they need.
      </p>
      <button type="button" class="button primary" onClick={() => void copy()}>
        <Icon of={copied ? Check : Link2} size={18} /> {copied ? "Link copied" : "Copy the link to this room"}
      </button>
    </div>
  );
}
