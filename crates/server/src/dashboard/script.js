// Everything works without this. With it, pages keep themselves up to date, and commands can be copied.
(() => {
  "use strict";
  const main = document.querySelector("main[data-live]");
  const light = document.getElementById("live");

  // What commands there are can be copied, where the browser lets us.
  const addCopyButtons = (root) => {
    if (!navigator.clipboard) return;
    for (const box of root.querySelectorAll("pre[data-copy]")) {
      const button = document.createElement("button");
      const text = box.textContent;
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
      box.append(button);
    }
  };
  addCopyButtons(document);
  if (!main || !window.EventSource) return;

  const say = (word) => {
    if (light.textContent === word) return;
    light.hidden = false;
    light.textContent = word;
    light.dataset.state = word;
  };

  // The same element of the new content, so that who is at it stays at it.
  const path = (element, root) => {
    const steps = [];
    for (let at = element; at !== root; at = at.parentElement) {
      steps.unshift(Array.prototype.indexOf.call(at.parentElement.children, at));
    }
    return steps;
  };
  const follow = (steps, root) => steps.reduce((at, step) => at && at.children[step], root);

  const replace = (id, html) => {
    const section = document.getElementById(id);
    if (!section || section.innerHTML === html) return;
    const active = document.activeElement;
    const isInside = section.contains(active) && active !== section;
    // Nobody is interrupted who is typing.
    if (isInside && /^(INPUT|SELECT|TEXTAREA)$/.test(active.tagName)) return;
    const steps = isInside && path(active, section);
    const open = new Set(Array.from(section.querySelectorAll("details[open][data-keep]"), (one) => one.dataset.keep));
    const scrolled = Array.from(section.querySelectorAll(".scroll"), (one) => one.scrollLeft);
    section.innerHTML = html;
    for (const one of section.querySelectorAll("details[data-keep]")) one.open = one.open || open.has(one.dataset.keep);
    section.querySelectorAll(".scroll").forEach((one, at) => { one.scrollLeft = scrolled[at] || 0; });
    addCopyButtons(section);
    const again = steps && follow(steps, section);
    if (again && again.tagName === active.tagName) again.focus({ preventScroll: true });
  };

  let source = null;
  let retry = 0;
  const stop = () => {
    clearTimeout(retry);
    if (source) source.close();
    source = null;
  };
  const start = () => {
    stop();
    source = new EventSource(main.dataset.live);
    source.addEventListener("open", () => say("Live"));
    source.addEventListener("section", (event) => {
      const end = event.data.indexOf("\n");
      replace(event.data.slice(0, end), event.data.slice(end + 1));
      say("Live");
    });
    // The token has ended, or may do something else now.
    source.addEventListener("end", () => { stop(); location.reload(); });
    source.addEventListener("error", () => {
      say("Not live");
      if (source && source.readyState === EventSource.CLOSED) {
        stop();
        retry = setTimeout(start, 10000);
      }
    });
  };
  const look = () => (document.hidden ? stop() : start());
  document.addEventListener("visibilitychange", look);
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", look);
})();
