import { useEffect, useRef } from "preact/hooks";

/** The person's own camera, mirrored, as one is used to from the bathroom. */
export function CameraVideo({ stream, label }: { stream: MediaStream; label: string }) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const video = element.current;
    if (video === null) return;
    video.srcObject = stream;
    void video.play().catch(() => undefined);
    return () => {
      video.srcObject = null;
    };
  }, [stream]);
  return <video ref={element} class="mirrored" aria-label={label} muted playsInline autoplay disablePictureInPicture />;
}
