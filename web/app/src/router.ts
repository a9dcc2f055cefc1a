/** Plain path routing. Pages change through `navigate`, the browser's own buttons, or an edited address. */
import { signal } from "@preact/signals";

/** Where the person is. */
export interface Place {
  path: string;
  hash: string;
  query: URLSearchParams;
}

function here(): Place {
  return { path: location.pathname, hash: location.hash, query: new URLSearchParams(location.search) };
}

/** The page's address, as a signal. */
export const place = signal<Place>(here());

/** Goes to a path of this app. */
export function navigate(path: string): void {
  history.pushState(null, "", path);
  place.value = here();
  scrollTo(0, 0);
}

for (const event of ["popstate", "hashchange"]) {
  addEventListener(event, () => {
    place.value = here();
  });
}
