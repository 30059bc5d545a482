// One tooltip for all icons: their name and key, under the mouse or the focus; Escape takes it away.

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
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
