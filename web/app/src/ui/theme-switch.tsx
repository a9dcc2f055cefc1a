import { Monitor, Moon, Sun } from "lucide";
import { type Theme, theme } from "../state/settings.ts";
import { Icon } from "./icon.tsx";

const THEMES: { value: Theme; text: string; icon: typeof Sun }[] = [
  { value: "system", text: "As the system", icon: Monitor },
  { value: "light", text: "Light", icon: Sun },
  { value: "dark", text: "Dark", icon: Moon },
];

/** Light, dark, or as the system has it. */
export function ThemeSwitch() {
  return (
    <fieldset class="segmented">
      <legend class="hidden">Colours</legend>
      {THEMES.map(({ value, text, icon }) => (
        <label key={value} title={text}>
          <input
            type="radio"
            name="theme"
            class="hidden"
            checked={theme.value === value}
            onChange={() => {
              theme.value = value;
            }}
          />
          <Icon of={icon} size={16} label={text} />
        </label>
      ))}
    </fieldset>
  );
}
