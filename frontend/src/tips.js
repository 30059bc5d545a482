// One tooltip for all icons: their name and key, under the mouse, the focus or a finger that rests; Escape takes it away.

const tip = document.getElementById("tip");

function show(button) {
  const key = button.getAttribute("aria-keyshortcuts");
  tip.textContent = `${button.getAttribute("aria-label")}${key ? ` (${key})` : ""}`;
  tip.hidden = false;
  const at = button.getBoundingClientRect();
  const left = Math.min(Math.max(4, at.left + at.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 4);
  const below = at.bottom + 6 + tip.offsetHeight < innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${below ? at.bottom + 6 : at.top - tip.offsetHeight - 6}px`;
}

const named = (event) => event.target.closest?.("button[data-icon], button[data-tip]");
const hide = () => {
  tip.hidden = true;
};

document.addEventListener("pointerover", (event) => (event.pointerType !== "touch" && named(event) ? show(named(event)) : hide()));
document.addEventListener("focusin", (event) => (named(event)?.matches(":focus-visible") ? show(named(event)) : hide()));
document.addEventListener("focusout", hide);
document.addEventListener("pointerdown", hide);

const PRESS_MS = 500;
let resting = 0;
let pressed = false; // then the finger asked what the button is, and does not use it

document.addEventListener("pointerdown", (event) => {
  clearTimeout(resting);
  pressed = false;
  const button = event.pointerType === "touch" && named(event);
  if (button) resting = setTimeout(() => {
    pressed = true;
    show(button);
  }, PRESS_MS);
});
for (const kind of ["pointerup", "pointercancel", "pointermove"]) {
  document.addEventListener(kind, (event) => (kind !== "pointermove" || Math.hypot(event.movementX, event.movementY) > 5) && clearTimeout(resting));
}
document.addEventListener("contextmenu", (event) => pressed && named(event) && event.preventDefault());
document.addEventListener("click", (event) => {
  if (!pressed || !named(event)) return;
  pressed = false;
  event.preventDefault();
  event.stopPropagation();
}, true);
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
