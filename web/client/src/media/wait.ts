/** Waiting with an end: browsers have been seen to answer never (`docs/design/playing.md`, Audio devices). */

/** The promise's value, or null after `ms`. A rejection passes through. */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const end = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms);
  });
  try {
    return await Promise.race([promise, end]);
  } finally {
    clearTimeout(timer);
  }
}
