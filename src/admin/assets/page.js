// Keeps the page up to date. Without this script it works as well, by reloading.
"use strict";
const live = document.getElementById("live");
live.closest("label").hidden = false;

async function refresh() {
  if (!live.checked || document.hidden || String(getSelection())) return;
  const answer = await fetch(location.href, { signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(answer.status);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const page = fresh.getElementById("page");
  // What a person has opened or closed stays so.
  for (const old of document.querySelectorAll("details")) {
    const same = page.querySelector("#" + old.id);
    if (same) same.open = old.open;
  }
  document.getElementById("page").replaceWith(document.adoptNode(page));
  document.title = fresh.title;
}

async function tick() {
  try {
    await refresh();
    live.closest("label").lastChild.textContent = " live";
  } catch {
    live.closest("label").lastChild.textContent = " worker does not answer";
  }
  setTimeout(tick, 3000);
}
setTimeout(tick, 3000);
