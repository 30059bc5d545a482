// The films of this visit, and what has become of them. Nothing is kept when the page is closed.
import { AwayError, RefusedError, predict } from "./api.js";

const AT_ONCE = 4;
const AWAY_MS = 3000;

/** Why a film does not fit the model; empty if it does, or nothing can tell. */
export const misfit = (film) => (film?.result?.fit && film.result.fit !== "ok" ? film.result.fit : "");

/** Why in a word or two. */
export const kind = (film) => misfit(film).split(":")[0];

/** What an operating system leaves in folders and archives, and no reader meant. */
export const isJunk = (name) => /(^|[\\/])(__MACOSX[\\/]|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$|DICOMDIR$)/i.test(name);

const queued = ({ name, file = null, why = "" }) => ({
  id: crypto.randomUUID?.() ?? `${Math.random()}`, file, name, state: why ? "refused" : "queued", result: null, why, force: false, reading: {},
});

async function isArchive(file) {
  const head = await file.slice(0, 132).text();
  return head.startsWith("PK\x03\x04") && !head.endsWith("DICM");
}

export class Worklist {
  constructor(changed) {
    this.films = [];
    this.point = null;
    this.running = 0;
    this.away = false;
    this.changed = changed;
  }

  add(files) {
    for (const file of files) if (!isJunk(file.name)) this.films.push(queued({ name: file.name, file }));
    this.next();
  }

  /** Films of an earlier visit. */
  restore(kept) {
    for (const one of kept) this.films.push({ ...queued(one), ...one });
    this.next();
  }

  /** Calls at another operating point: the films are asked about again. */
  at(point) {
    this.point = point;
    for (const film of this.films) if (film.state === "done") film.state = "queued";
    this.next();
  }

  /** Scores of a film that does not fit the model: it is asked about again. */
  force(film) {
    film.force = true;
    if (film.state === "done") film.state = "queued";
    this.next();
  }

  next() {
    this.changed();
    while (this.running < AT_ONCE && !this.away) {
      const film = this.films.find((one) => one.state === "queued");
      if (!film) return;
      this.run(film);
    }
  }

  async run(film) {
    film.state = "running";
    this.running += 1;
    this.changed();
    try {
      if (await isArchive(film.file)) await this.unpack(film);
      else {
        film.single = true; // it can be shown while it is being scored
        this.changed();
        const [answer] = (await predict(film.file, this.point, film.force)).films;
        film.result = answer;
        film.name = answer.film;
        film.state = answer.error ? "refused" : "done";
        film.why = answer.error;
      }
    } catch (error) {
      film.state = "queued";
      if (error instanceof AwayError) this.wait(AWAY_MS);
      else if (error instanceof RefusedError && error.status === 429) this.wait(1000 * error.retryAfter);
      else {
        film.state = "refused";
        film.why = error.message;
      }
      if (error instanceof AwayError) this.lost = true;
    }
    if (film.state !== "queued") this.lost = false;
    this.running -= 1;
    this.next();
  }

  /** An archive's row gives way to those of its films. */
  async unpack(archive) {
    const { unpack } = await import("./archive.js");
    const members = await unpack(archive.file);
    const at = this.films.indexOf(archive);
    if (at >= 0) this.films.splice(at, 1, ...members.map(queued));
    archive.state = "unpacked";
  }

  wait(milliseconds) {
    if (this.away) return;
    this.away = true;
    setTimeout(() => {
      this.away = false;
      this.next();
    }, milliseconds);
  }
}

/** The files of what was dropped, those in folders too. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) found.push(await new Promise((done, failed) => entry.file(done, failed)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (!some.length) return;
        for (const one of some) await walk(one);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}
