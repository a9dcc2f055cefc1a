/** The frame of every page outside a call: the mark, the page, the colours. */
import type { ComponentChildren } from "preact";
import { navigate } from "../router.ts";
import { Logo } from "../ui/logo.tsx";
import { ThemeSwitch } from "../ui/theme-switch.tsx";

export function Shell({ children, wide = false }: { children: ComponentChildren; wide?: boolean }) {
  return (
    <div class="shell">
      <header class="shell-head">
        <a
          class="brand"
          href="/"
          onClick={(event) => {
            event.preventDefault();
            navigate("/");
          }}
        >
          <Logo /> <span>Grove</span>
        </a>
        <ThemeSwitch />
      </header>
      <main class={wide ? "shell-main wide" : "shell-main"}>{children}</main>
    </div>
  );
}
