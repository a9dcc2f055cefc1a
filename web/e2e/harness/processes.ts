/** Processes that the harness started, ended by their ids. */
import { readdirSync, readFileSync } from "node:fs";

/** `pid` and everything below it, children first. */
export function familyOf(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = statOf(Number(entry));
    if (stat) children.set(stat.parent, [...(children.get(stat.parent) ?? []), Number(entry)]);
  }
  const walk = (at: number): number[] => [...(children.get(at) ?? []).flatMap(walk), at];
  return walk(pid);
}

/** Parent and CPU seconds used so far; null when the process is gone. */
export function statOf(pid: number): { parent: number; cpuSeconds: number } | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    // proc(5): fields 4 (ppid), 14 and 15 (user and system time in ticks of 1/100 s).
    return { parent: Number(fields[1]), cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100 };
  } catch {
    return null;
  }
}

export function killFamily(pid: number): void {
  for (const member of familyOf(pid)) {
    try {
      process.kill(member, "SIGKILL");
    } catch {
      // Already gone.
    }
  }
}

/** CPU seconds that a process and all its living descendants have used. */
export function cpuOfFamily(pid: number): number {
  return familyOf(pid).reduce((sum, member) => sum + (statOf(member)?.cpuSeconds ?? 0), 0);
}
