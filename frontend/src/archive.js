// Films out of a zip file, one by one, so that each is scored and shown like any other; and reports into one.
import { words } from "./words.js";
import { isJunk } from "./worklist.js";
import { BlobReader, BlobWriter, Uint8ArrayWriter, ZipReader, ZipWriter, configure } from "@zip.js/zip.js/lib/zip-core-external.js";

const MOST_FILMS = 2000;
const MOST_BYTES = 2 ** 30;
configure({ useWebWorkers: false }); // the page's policy has no workers; the browser inflates by itself

const fault = (what) => new Error(words.archiveFault(what));

/** @returns {Promise<{name: string, file?: File, why?: string}[]>} the members in their order, each a film or why it is none */
export async function unpack(file) {
  const archive = new ZipReader(new BlobReader(file), { checkSignature: true });
  const entries = await archive.getEntries().catch((error) => {
    throw fault(words.archiveIntact(error.message));
  });
  const members = entries.filter((entry) => !entry.directory && !isJunk(entry.filename));
  if (!members.length) throw fault(words.archiveEmpty);
  if (members.length > MOST_FILMS) throw fault(words.archiveFilms(MOST_FILMS, members.length));
  const bytes = members.reduce((sum, entry) => sum + entry.uncompressedSize, 0);
  if (bytes > MOST_BYTES) throw fault(words.archiveBytes(MOST_BYTES, bytes));
  if (members.some((entry) => entry.encrypted)) throw fault(words.archiveLocked);
  const films = [];
  for (const entry of members) films.push(await member(entry)); // one by one: they come in order, and memory is bounded
  await archive.close();
  return films;
}

async function member(entry) {
  const name = entry.filename.split(/[\\/]/).pop();
  try {
    return { name, file: new File([await entry.getData(new Uint8ArrayWriter())], name) };
  } catch (error) {
    return { name, why: words.memberFault(error.message) };
  }
}

/** @param {{name: string, content: Blob}[]} files  two of one name are numbered  @returns {Promise<Blob>} a zip file of them */
export async function pack(files) {
  const archive = new ZipWriter(new BlobWriter("application/zip"), { level: 0 });
  const names = new Map();
  for (const { name, content } of files) {
    const before = names.get(name) ?? 0;
    names.set(name, before + 1);
    await archive.add(before ? `${before + 1}-${name}` : name, new BlobReader(content));
  }
  return archive.close();
}
