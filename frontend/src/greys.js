// Films' greys, asked of the server once and kept for those that are open, next or before; a film ahead is asked for early.
import { pixels } from "./api.js";

const KEPT = 4;
const kept = new Map(); // from a film's id to a promise of its greys, the latest last

/** A film's greys, with the ends of its automatic window. */
export function greys(film) {
  const known = kept.get(film.id);
  if (known) kept.delete(film.id);
  const coming = known ?? pixels(film.file).then((read) => ({ ...read, counts: counted(read) }));
  kept.set(film.id, coming);
  coming.catch(() => kept.delete(film.id));
  for (const id of kept.keys()) if (kept.size > KEPT) kept.delete(id);
  return coming;
}

/** Ask for a film's greys before it is opened; faults are told when it is. */
export const ahead = (film) => film?.state === "done" && !kept.has(film.id) && greys(film).catch(() => {});

export const forgetGreys = () => kept.clear();

function counted({ greys: values, bits }) {
  const counts = new Uint32Array(2 ** bits);
  for (const grey of values) counts[grey] += 1;
  return counts;
}

const AUTO = [0.01, 0.99];
const ENDS = { auto: AUTO, lungs: [0.02, 0.6], bones: [0.35, 0.999] };

/**
 * Low and high end of a preset's window, as parts of the full range: percentiles of the film's greys. Black and full white are
 * left out, unless the film has nothing else: they are collimated borders and markers.
 */
export function ends(film, name) {
  const parts = ENDS[name];
  if (!parts) return [0, 1];
  const { counts } = film;
  const last = counts.length - 1;
  const inner = film.greys.length - counts[0] - counts[last];
  const [first, end] = inner ? [1, last - 1] : [0, last];
  const total = inner || film.greys.length;
  const found = [];
  let below = 0;
  let grey = first;
  for (const part of parts) {
    while (grey < end && below + counts[grey] <= part * total) below += counts[grey++];
    found.push(grey / last);
  }
  return found[0] < found[1] ? found : [0, 1];
}
