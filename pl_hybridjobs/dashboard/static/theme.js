// Before anything is drawn: the theme that was chosen last; without a choice, the system's.
(() => {
  const chosen = localStorage.getItem("hybridjobs-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
