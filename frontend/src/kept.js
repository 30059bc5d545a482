// The list of films over a reload, in this browser's IndexedDB, if the reader allowed it; Clear takes all of it away.
import { clear, createStore, get, set } from "idb-keyval";

const ALLOWED = "hilum-keep";
const LIST = "films";
const store = () => createStore("hilum-reading-room", "kept");

export const isKept = () => localStorage.getItem(ALLOWED) === "yes";

/** Keep from now on, or no longer: then nothing is left. */
export async function allow(kept, films) {
  if (kept) {
    localStorage.setItem(ALLOWED, "yes");
    await keepList(films);
  } else {
    localStorage.removeItem(ALLOWED);
    await forgetList();
  }
}

export async function keepList(films) {
  if (!isKept()) return;
  await set(LIST, films.map(({ id, name, file, force, reading }) => ({ id, name, file, force, reading })), store()).catch(() => {});
}

export const keptList = async () => (isKept() ? ((await get(LIST, store()).catch(() => null)) ?? []) : []);
export const forgetList = () => clear(store()).catch(() => {});
