// All that the page asks the server. The token, where one is needed, comes with the address and stays in this tab.

import { words } from "./words.js";

const TOKEN = "hilum-token";

if (location.hash.length > 1) {
  sessionStorage.setItem(TOKEN, decodeURIComponent(location.hash.slice(1)));
  history.replaceState(null, "", location.pathname);
}

export class AwayError extends Error {}

export class RefusedError extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new AwayError(words.awayShort);
  }
  if (answer.ok) return answer;
  const detail = await answer.json().then((body) => body.detail, () => answer.statusText);
  throw new RefusedError(answer.status, detail, Number(answer.headers.get("retry-after") ?? 1));
}

export const useToken = (token) => sessionStorage.setItem(TOKEN, token.trim());
export const model = async () => (await ask("/v1/model")).json();

export async function predict(file, point, force) {
  const form = new FormData();
  form.append("films", file);
  form.append("regions", "true");
  if (force) form.append("force", "true");
  if (point) form.append("point", point);
  return (await ask("/v1/predict", { method: "POST", body: form })).json();
}

export async function pixels(file) {
  const form = new FormData();
  form.append("film", file);
  const answer = await ask("/v1/pixels", { method: "POST", body: form });
  const number = (name) => Number(answer.headers.get(name));
  const content = await answer.arrayBuffer();
  const bits = number("x-bits");
  const spacing = answer.headers.get("x-spacing-mm")?.split(",").map(Number) ?? null;
  const greys = bits === 8 ? new Uint8Array(content) : new Uint16Array(content);
  return { greys, rows: number("x-rows"), columns: number("x-columns"), bits, spacing };
}

export async function dicom(file, point, force) {
  const form = new FormData();
  form.append("film", file);
  if (force) form.append("force", "true");
  if (point) form.append("point", point);
  return (await ask("/v1/dicom", { method: "POST", body: form })).blob();
}

export async function reading(file, said, reader, point) {
  const form = new FormData();
  form.append("film", file);
  form.append("reading", JSON.stringify(said));
  form.append("reader", reader);
  if (point) form.append("point", point);
  return (await ask("/v1/reading", { method: "POST", body: form })).blob();
}

export async function example(number) {
  const answer = await ask(`/v1/examples/${number}`);
  return new File([await answer.blob()], `phantom-${number + 1}.png`, { type: "image/png" });
}
