// A toolbar is one stop of the Tab key; arrow keys, Home and End move within it.
// As the ARIA Authoring Practices Guide has toolbars: https://www.w3.org/WAI/ARIA/apg/patterns/toolbar/

export function rove(toolbar) {
  const usable = () => [...toolbar.querySelectorAll("button")].filter((one) => !one.disabled && one.offsetParent);
  const settle = (chosen) => {
    for (const one of toolbar.querySelectorAll("button")) one.tabIndex = one === chosen ? 0 : -1;
  };
  toolbar.addEventListener("keydown", (event) => {
    const all = usable();
    const at = all.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    all[(to + all.length) % all.length].focus();
  });
  toolbar.addEventListener("focusin", (event) => event.target.matches("button") && settle(event.target));
  /** After buttons were disabled or enabled: one that can be reached must be left. */
  return () => {
    const all = usable();
    if (!all.some((one) => one.tabIndex === 0)) settle(all[0]);
  };
}
