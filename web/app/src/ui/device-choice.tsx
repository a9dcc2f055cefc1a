/** A list to choose a camera, a microphone or a speaker from, at the remembered one. */
import type { IconNode } from "lucide";
import type { LocalMedia } from "../state/media.ts";
import { cameraId, microphoneId, speakerId } from "../state/settings.ts";
import { Choice } from "./choice.tsx";

const KINDS = {
  camera: { label: "Camera", list: "cameras", chosen: cameraId },
  microphone: { label: "Microphone", list: "microphones", chosen: microphoneId },
  speaker: { label: "Speaker", list: "speakers", chosen: speakerId },
} as const;

interface DeviceChoiceProps {
  media: LocalMedia;
  kind: keyof typeof KINDS;
  icon?: IconNode;
  onChange: (id: string) => void;
}

export function DeviceChoice({ media, kind, onChange, ...rest }: DeviceChoiceProps) {
  const { label, list, chosen } = KINDS[kind];
  const options = media.devices.value[list].map(({ id, label: text }) => ({ value: id, text }));
  return <Choice {...rest} label={label} options={options} value={chosen.value} onChange={onChange} />;
}
