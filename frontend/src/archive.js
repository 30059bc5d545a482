// Films out of a zip file, one by one, so that each is scored and shown like any other.
import { BlobReader, Uint8ArrayWriter, ZipReader, configure } from "@zip.js/zip.js/lib/zip-core-external.js";

const MOST_FILMS = 2000;
const MOST_BYTES = 2 ** 30;
configure({ useWebWorkers: false }); // the page's policy has no workers; the browser inflates by itself

const fault = (what) => new Error(`archive must be ${what}`);

/** @returns {Promise<{name: string, file?: File, why?: string}[]>} the members in their order, each a film or why it is none */
export async function unpack(file) {
  const archive = new ZipReader(new BlobReader(file), { checkSignature: true });
  const entries = await archive.getEntries().catch((error) => {
    throw fault(`an intact zip file: ${error.message}. Pack it again.`);
  });
  const members = entries.filter((entry) => !entry.directory);
  if (!members.length) throw fault("of at least one film, got none.");
  if (members.length > MOST_FILMS) throw fault(`of at most ${MOST_FILMS} films, got ${members.length}. Send them in parts.`);
  const bytes = members.reduce((sum, entry) => sum + entry.uncompressedSize, 0);
  if (bytes > MOST_BYTES) throw fault(`of at most ${MOST_BYTES} bytes when unpacked, got ${bytes}. Send it in parts.`);
  if (members.some((entry) => entry.encrypted)) throw fault("without a password, got an encrypted one.");
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
    return { name, why: `film must be intact in its archive: ${error.message}. Pack it again.` };
  }
}
