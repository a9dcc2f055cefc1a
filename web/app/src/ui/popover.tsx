/** A button that opens a small panel next to it. Escape or a click elsewhere closes; the focus goes back to the button. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

interface PopoverProps {
  /** The button's accessible name. */
  label: string;
  title?: string;
  buttonClass: string;
  button: ComponentChildren;
  /** Which edge of the button the panel is aligned with. */
  align?: "start" | "center" | "end";
  children: (close: () => void) => ComponentChildren;
}

export function Popover({ label, title, buttonClass, button, align = "center", children }: PopoverProps) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const trigger = useRef<HTMLButtonElement>(null);
  const id = useId();
  const close = () => {
    setOpen(false);
    trigger.current?.focus();
  };
  useEffect(() => {
    if (!open) return;
    const outside = (event: Event) => {
      if (event.target instanceof Node && !root.current?.contains(event.target)) setOpen(false);
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close();
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("focusin", outside);
    document.addEventListener("keydown", onKey, true);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("focusin", outside);
      document.removeEventListener("keydown", onKey, true);
    };
  }, [open]);
  return (
    <div class="popover-root" ref={root}>
      <button
        ref={trigger}
        type="button"
        class={buttonClass}
        aria-label={label}
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        title={title ?? label}
        onClick={() => setOpen(!open)}
      >
        {button}
      </button>
      {open && (
        <section id={id} class={`popover popover-${align}`} aria-label={label}>
          {children(close)}
        </section>
      )}
    </div>
  );
}
