// Keys of a queue, and `g` with a letter to go somewhere. All of it can be done without them.
"use strict";

(() => {
  const typing = "input:not([type=checkbox]), textarea, select, [contenteditable], dialog[open]";
  const rows = () => [...document.querySelectorAll("table.queue tbody tr[data-ref]")];
  const at = () => rows().findIndex((row) => row.classList.contains("at"));
  let goes = false;

  function move(to) {
    const all = rows();
    if (!all.length) return;
    const n = Math.max(0, Math.min(all.length - 1, to));
    for (const row of all) row.classList.remove("at");
    all[n].classList.add("at");
    all[n].querySelector("a.ref").focus({ preventScroll: true });
    all[n].scrollIntoView({ block: "nearest" });
  }

  // What is chosen, else the row that the keyboard is at; the page comes back at the same place of the queue.
  function press(action) {
    const button = document.querySelector(`#many > button[value="${action}"]`);
    const row = rows()[at()];
    if (!button || !row) return;
    if (!document.querySelector(".queue input[name=ref]:checked")) row.querySelector("input[name=ref]").checked = true;
    const form = button.form;
    form.action = `${form.getAttribute("action").split("#")[0]}#at-${at()}`;  // where the answer leads keeps it
    button.click();
  }

  const keys = {
    j: () => move(at() + 1),
    k: () => move(at() < 0 ? 0 : at() - 1),
    x: () => rows()[at()]?.querySelector("input[name=ref]")?.click(),
    a: () => press("mine"),
    e: () => press("snooze"),
    "?": () => document.getElementById("keys")?.showModal(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(typing)) return;
    if (goes) {
      goes = false;
      document.querySelector(`#keys a[data-go="${CSS.escape(event.key)}"]`)?.click();
      return;
    }
    if (event.key === "g") {
      goes = true;
      setTimeout(() => { goes = false; }, 1500);
      return;
    }
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });

  document.addEventListener("DOMContentLoaded", () => {
    const kept = /^#at-(\d+)$/.exec(location.hash);
    if (!kept || !rows().length) return;
    history.replaceState(null, "", location.pathname + location.search);
    move(Number(kept[1]));
  });
})();
