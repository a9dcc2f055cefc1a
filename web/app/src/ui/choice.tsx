/** A labelled list to choose one entry from: the browser's own select, which every phone shows well. */
import type { IconNode } from "lucide";
import { useId } from "preact/hooks";
import { Icon } from "./icon.tsx";

export interface Option {
  value: string;
  text: string;
}

interface ChoiceProps {
  label: string;
  icon?: IconNode;
  options: readonly Option[];
  value: string;
  onChange: (value: string) => void;
  disabled?: boolean;
}

export function Choice({ label, icon, options, value, onChange, disabled = false }: ChoiceProps) {
  const id = useId();
  const known = options.some((option) => option.value === value);
  return (
    <div class="choice">
      <label for={id}>
        {icon !== undefined && <Icon of={icon} size={16} />} {label}
      </label>
      <select
        id={id}
        value={known ? value : (options[0]?.value ?? "")}
        disabled={disabled || options.length === 0}
        onChange={(event) => onChange(event.currentTarget.value)}
      >
        {options.length === 0 && <option value="">None found</option>}
        {options.map((option) => (
          <option key={option.value} value={option.value} selected={option.value === value}>
            {option.text}
          </option>
        ))}
      </select>
    </div>
  );
}
