// How a reader left each film: window, zoom, place, rulers, finding. Kept over a reload in this tab, under a hash of the film's
// content, so that no name is stored.

const KEY = "hilum-view-";

async function digest(file) {
  if (!globalThis.crypto?.subtle) return null; // off loopback without TLS
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return [...hash.slice(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What is known of how a film was left; null if nothing is. */
export async function recall(film) {
  if (film.view) return film.view;
  film.digest ??= await digest(film.file).catch(() => null);
  try {
    return JSON.parse(sessionStorage.getItem(KEY + film.digest));
  } catch {
    return null;
  }
}

export function remember(film, view) {
  film.view = view;
  if (!film.digest) return;
  try {
    sessionStorage.setItem(KEY + film.digest, JSON.stringify(view));
  } catch {
    // the tab's storage is full: it is remembered until the page is closed
  }
}

export function forgetViews() {
  for (const key of Object.keys(sessionStorage)) if (key.startsWith(KEY)) sessionStorage.removeItem(key);
}
