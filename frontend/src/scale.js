// The bars' scale: log-odds, so that low calibrated scores can be told apart. The scores stand beside the bars in digits.

const END = 0.001;
const TICKS = [0.01, 0.1, 0.5, 0.9, 0.99];
const odds = (share) => Math.log(share / (1 - share));

/** Where a score lies, in percent of the scale's width; those beyond 0.001 and 0.999 lie at its ends. */
export const place = (score) => 50 + (50 * odds(Math.min(1 - END, Math.max(END, score)))) / odds(1 - END);

function tick(share, text) {
  const made = document.createElement("span");
  made.className = "tick";
  made.style.left = `${place(share)}%`;
  made.textContent = text;
  return made;
}

export const ticks = () => TICKS.map((share) => tick(share, ""));
export const labels = () => TICKS.map((share) => tick(share, String(share)));
