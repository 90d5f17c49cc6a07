// htmx asks for the live part and morphs it in; here is what it leaves out: pausing, what a screen reader hears, and
// what is said when the server does not answer.
const by = id => document.getElementById(id);
const first = () => document.querySelector(".card")?.dataset.title;
let paused = false, spokenAt = 0, before, focused;

document.addEventListener("htmx:before:request", event => {
  if (event.target.id === "live" && (paused || document.hidden)) event.preventDefault();
});
document.addEventListener("htmx:before:swap", () => { before = first(); focused = document.activeElement; });
document.addEventListener("htmx:after:swap", event => {
  // Where a browser cannot move an element without taking the focus from it.
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({preventScroll: true});
  if (event.target.id !== "live") return paused || show(false);
  by("offline").textContent = "";
  if (first() && first() !== before && Date.now() - spokenAt > 10000) {  // it should not talk over the visitor each second
    by("spoken").textContent = `Used last: ${first()}`;
    spokenAt = Date.now();
  }
});
for (const failed of ["htmx:error", "htmx:response:error"]) document.addEventListener(failed, event => {
  if (event.target.id === "live") by("offline").textContent = "This page is not updated at the moment. Trying again.";
});

function show(pausing) {
  paused = pausing;
  by("pause").hidden = false;
  by("pause").ariaPressed = paused;
  if (paused) Object.assign(document.querySelector(".state"), {className: "state late", textContent: "Paused"});
}
show(false);
document.addEventListener("click", event => { if (event.target.id === "pause") show(!paused); });
