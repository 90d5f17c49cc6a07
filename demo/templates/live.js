// Asks for the live part every second and changes only what differs, so that focus, selection and scrolling stay.
const live = document.getElementById("live");
const pause = document.getElementById("pause");
const spoken = document.getElementById("spoken");
let paused = false, asking = false, spokenAt = 0;

function morph(old, fresh) {
  for (const {name} of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const {name, value} of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const wanted = [...fresh.childNodes];
  wanted.forEach((node, i) => {
    const here = old.childNodes[i] ?? null;
    const same = node.id ? [...old.children].find(child => child.id === node.id)
      : here && !here.id && here.nodeName === node.nodeName ? here : null;
    if (!same) return old.insertBefore(node, here);
    if (same !== here) old.insertBefore(same, here);
    if (same.nodeType === Node.ELEMENT_NODE) morph(same, node);
    else if (same.data !== node.data) same.data = node.data;
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

function show(html) {
  const fresh = live.cloneNode();
  fresh.innerHTML = html;
  const focused = document.activeElement;
  const first = () => live.querySelector(".card")?.dataset.title;
  const before = first();
  morph(live, fresh);
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({preventScroll: true});
  if (first() !== before && Date.now() - spokenAt > 10000) {  // a screen reader should not be talked over each second
    spoken.textContent = `Used last: ${first()}`;
    spokenAt = Date.now();
  }
}

async function update() {
  if (paused || asking || document.hidden) return;
  asking = true;
  try {
    const answer = await fetch(live.dataset.url, {signal: AbortSignal.timeout(5000)});
    if (!answer.ok) throw new Error(answer.status);
    show(await answer.text());
  } catch {
    live.querySelector(".notice").textContent = "This page is not updated at the moment. Trying again.";
  } finally {
    asking = false;
  }
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Resume" : "Pause";
  pause.ariaLabel = `${pause.textContent} updates`;
  update();
});
setInterval(update, 1000);
