"use strict";
// Shows what the master serves at this address now, every two seconds: the whole page is fetched, and <main> replaced.
(() => {
  const EVERY_MILLISECONDS = 2000;
  const PATIENCE_MILLISECONDS = 4000;
  const stale = document.getElementById("stale");
  let since = new Date();
  let timer = 0;

  function show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const root = document.documentElement;
    if (fresh.documentElement.dataset.version !== root.dataset.version) {
      location.reload(); // Another version of clusterd has another style and another script.
      return;
    }
    document.title = fresh.title;
    document.querySelector("link[rel=icon]").href = fresh.querySelector("link[rel=icon]").href;
    // A selection would be lost. It is most likely being copied.
    if (getSelection().isCollapsed) {
      document.querySelector("main").replaceWith(fresh.querySelector("main"));
    }
  }

  async function update() {
    try {
      const signal = AbortSignal.timeout(PATIENCE_MILLISECONDS);
      const answer = await fetch(location.pathname, { cache: "no-store", signal });
      if (!answer.ok) {
        throw new Error(`status ${answer.status}`);
      }
      show(await answer.text());
      since = new Date();
      stale.hidden = true;
    } catch (error) {
      stale.textContent = `clusterd has not answered since ${since.toLocaleTimeString()}. What is shown is as of then.`;
      stale.hidden = false;
    }
    document.body.classList.toggle("old", !stale.hidden);
    next();
  }

  function next() {
    clearTimeout(timer);
    if (!document.hidden) {
      timer = setTimeout(update, EVERY_MILLISECONDS);
    }
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : update()));
  next();
})();
