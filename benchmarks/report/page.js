// The theme button, and tips that show at once instead of after the browser's second.
"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  document.body.append(tip);
  for (const title of document.querySelectorAll("svg title")) {
    const shape = title.parentElement;
    shape.dataset.tip = title.textContent;
    shape.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  document.addEventListener("pointermove", (event) => {
    const shape = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    tip.style.display = shape ? "block" : "none";
    if (!shape) return;
    tip.textContent = shape.dataset.tip;
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8);
    tip.style.left = `${left}px`;
    tip.style.top = `${top}px`;
  });
})();
