// Keeps a backfill's progress up to date. When its status changes the page is loaded anew: its buttons change, too.
const shown = document.getElementById("backfill-progress");

async function look() {
  try {
    const answer = await fetch(shown.dataset.url);
    if (answer.redirected) location.reload();  // logged out
    if (answer.ok) shown.innerHTML = await answer.text();
  } catch {
    // The server does not answer; the next look may find it.
  }
  if (shown.firstElementChild.dataset.status !== shown.dataset.status) location.reload();
  setTimeout(look, 1000);
}

if ("open" in shown.dataset) setTimeout(look, 1000);
