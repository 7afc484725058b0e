// Small comforts; every page works without them.
"use strict";

// The reader's own zone in the title of every time. The text stays UTC: it is what everybody else sees.
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.dataset.local = "1";
    time.title += "\nyour time: " + at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
  }
}

document.addEventListener("DOMContentLoaded", () => {
  localTimes(document);
  document.body.addEventListener("htmx:afterSwap", (event) => {
    localTimes(event.target.parentNode || document);
    // The box that was pressed is gone: the keyboard goes on, and a reader is told, from where the explorer stands now.
    if (event.detail.target.id === "explorer") document.getElementById("explorer")?.focus({ preventScroll: true });
  });
  document.body.addEventListener("htmx:responseError", (event) => {
    // A list that could not be loaded must not look like an empty one: let the browser show the server's answer.
    if (event.detail.requestConfig.verb === "get") window.location.assign(event.detail.pathInfo.finalRequestPath);
  });
});

// Boxes of a picture are links. htmx knows HTML's own only: a plain click fetches the part, any other is the browser's.
document.addEventListener("click", (event) => {
  const box = event.target.closest("svg a[hx-get]");
  if (!box) return;
  if (event.ctrlKey || event.metaKey || event.shiftKey) event.stopPropagation();
  else event.preventDefault();
}, true);

// "/" puts the cursor into the search box, unless somebody is typing.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const box = document.getElementById("search");
  if (box) {
    event.preventDefault();
    box.focus();
    box.select();
  }
});

// A menu that is open closes by Escape, and by a click elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.more[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.more[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// What nobody takes back is asked again. Where scripts are off, the form goes as it is: the server checks every step anyway.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.sure;
  if (question && !window.confirm(question)) event.preventDefault();
});
