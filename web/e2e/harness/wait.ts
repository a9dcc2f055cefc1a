/** Waiting with a deadline that explains itself. */

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A promise that fails after `ms`, saying what was being waited for. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Asks `probe` until it returns true. Anything else it returns is the reason why not, shown with `dump` when the
 * deadline passes.
 */
export async function until(
  what: string,
  probe: () => Promise<true | string> | true | string,
  options: { ms?: number; everyMs?: number; dump?: () => Promise<string> } = {},
): Promise<void> {
  const deadline = Date.now() + (options.ms ?? 20_000);
  let last = "not asked yet";
  while (Date.now() < deadline) {
    const answer = await within(10_000, what, Promise.resolve(probe())).catch((error: unknown) => String(error));
    if (answer === true) return;
    last = answer;
    await sleep(options.everyMs ?? 100);
  }
  const dump = options.dump ? `\n${await options.dump().catch(String)}` : "";
  throw new Error(`${what}: did not happen. Last: ${last}${dump}`);
}
