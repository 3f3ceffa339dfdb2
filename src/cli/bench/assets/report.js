// Shows the numbers under the pointer. Everything else is there without it.
"use strict";
for (const frame of document.querySelectorAll(".frame")) {
  const tips = JSON.parse(frame.dataset.tips);
  if (!tips.length) continue;
  const [cursor, tip] = ["cursor", "tip"].map((name) => {
    const mark = document.createElement("span");
    mark.className = name;
    mark.hidden = true;
    frame.append(mark);
    return mark;
  });
  frame.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * 100;
    const nearer = (a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
    const [place, text] = tips.reduce(nearer);
    cursor.style.left = place + "%";
    tip.textContent = text;
    tip.hidden = cursor.hidden = false;
    // Inside the picture on both sides.
    const room = box.width - tip.offsetWidth;
    tip.style.left = Math.max(-40, Math.min(room, (place / 100) * box.width - tip.offsetWidth / 2)) + "px";
  });
  frame.addEventListener("pointerleave", () => {
    tip.hidden = cursor.hidden = true;
  });
}
