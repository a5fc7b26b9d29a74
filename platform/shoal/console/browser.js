// Runs in every page: tells the server the browser's time zone, and tells the reader how
// old the page is and whether it still hears from the server.
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const cookie = () => document.cookie.match(/(?:^|; )shoal_zone=([^;]*)/)?.[1];
  const drawnFor = document.querySelector("meta[name=shoal-zone]")?.content;
  if (zone && cookie() !== zone) {
    document.cookie = `shoal_zone=${zone}; path=/; max-age=31536000; samesite=lax`;
    if (drawnFor && drawnFor !== zone && cookie() === zone) location.reload();
  }

  let stamp = null;
  let since = performance.now();
  const describe = (seconds) =>
    seconds < 10 ? "Updated just now"
    : seconds < 100 ? `Updated ${Math.floor(seconds / 10) * 10} seconds ago`
    : `Updated ${Math.round(seconds / 60)} minutes ago`;

  function tick() {
    const line = document.querySelector("[data-shoal-stamp]");
    if (!line) return;
    if (line.dataset.shoalStamp !== stamp) {
      stamp = line.dataset.shoalStamp;
      since = performance.now();
    }
    const isLost = !navigator.onLine || (window.did_handshake && window.socket?.connected === false);
    const age = describe((performance.now() - since) / 1000);
    const text = isLost ? `Connection lost. ${age}; trying again.`
      : line.dataset.shoalFault ? `${line.dataset.shoalFault} ${age}; trying again.`
      : line.dataset.shoalFollows ? age : line.dataset.shoalDrawn;
    const isBad = isLost || Boolean(line.dataset.shoalFault);
    if (line.textContent !== text) line.textContent = text;
    line.classList.toggle("sh-stale", isBad);
    if (isBad) line.setAttribute("role", "alert");
    else line.removeAttribute("role");
  }
  // A table that scrolls can be reached and scrolled with the keyboard.
  function makeTablesReachable() {
    for (const region of document.querySelectorAll(".q-table__middle:not([tabindex])"))
      region.tabIndex = 0;
  }

  setInterval(() => { tick(); makeTablesReachable(); }, 500);
  for (const event of ["online", "offline"]) addEventListener(event, tick);
})();
