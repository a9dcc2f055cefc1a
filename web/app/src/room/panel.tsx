import { X } from "lucide";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import type { Call } from "../state/call.ts";
import { Icon } from "../ui/icon.tsx";

interface PanelProps {
  call: Call;
  title: string;
  wide?: boolean;
  children: ComponentChildren;
}

/** What slides in beside the stage. The focus goes to its heading, and back to where it was when it closes. */
export function SidePanel({ call, title, wide = false, children }: PanelProps) {
  const heading = useId();
  const element = useRef<HTMLElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    element.current?.focus();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  const close = () => {
    if (call.panel.value !== null) call.toggle(call.panel.value);
  };
  return (
    <aside
      ref={element}
      class={wide ? "panel wide" : "panel"}
      aria-labelledby={heading}
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
      }}
    >
      <header class="panel-head">
        <h2 id={heading}>{title}</h2>
        <button type="button" class="icon-button" aria-label={`Close ${title.toLowerCase()}`} onClick={close}>
          <Icon of={X} />
        </button>
      </header>
      {children}
    </aside>
  );
}
