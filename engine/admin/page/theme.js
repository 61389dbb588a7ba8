// The theme is chosen before anything is drawn: "light", "dark", or the system's.
"use strict";
(() => {
  const kept = localStorage.getItem("sluice-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
