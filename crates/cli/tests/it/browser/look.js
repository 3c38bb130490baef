// What is wrong with the page, as a list of sentences.
const wrong = [];
const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const expect = (holds, sentence) => { if (!holds) wrong.push(sentence); };
const isSeen = (element) => element.checkVisibility() && element.getBoundingClientRect().width > 1;

expect(document.title.endsWith(" · utxoIQ Store") && document.title.length > 16, `the title is ${document.title}`);
expect(document.documentElement.lang === "en", "the page has no language");
expect(all("h1").length === 1, "there is not one heading");
expect(all("main").length === 1 && all("nav").length >= 1, "a landmark is missing");
expect(all("[aria-current=page]").filter(isSeen).length <= 1, "the menu is at two places");
expect(document.documentElement.scrollWidth <= window.innerWidth, `the page is ${document.documentElement.scrollWidth} wide`);
const ids = all("[id]").map((one) => one.id);
expect(new Set(ids).size === ids.length, "an id is there twice");
for (const one of all("a[href], button, summary")) {
  expect(one.textContent.trim() || one.ariaLabel, `${one.outerHTML.slice(0, 80)} has no name`);
}
for (const one of all("input:not([type=hidden]), select")) {
  expect(one.labels.length > 0 || one.ariaLabel, `${one.name} has no label`);
}
for (const one of all("svg:not([aria-hidden])").filter((one) => !one.closest("[aria-hidden=true]"))) {
  expect(one.getAttribute("role") === "img" && one.getAttribute("aria-label"), "a drawing has no words");
}
for (const one of all("table")) expect(one.caption && all("th[scope=col]", one).length > 0, "a table has no caption or heads");
for (const one of all("time")) expect(one.dateTime.endsWith("Z"), "a time is not exact");

// Contrast, as WCAG counts it.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const read = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return { r, g, b, a: a / 255 };
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = read(getComputedStyle(at).backgroundColor);
    if (colour.a > 0.99) return colour;
  }
  return read("white");
};
const light = ({ r, g, b }) => [r, g, b]
  .map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const seen = new Set();
for (const one of all("p, a, h1, h2, h3, th, td, dt, dd, span, button, summary, label, li, code, pre, time, b")) {
  if (!isSeen(one) || !Array.from(one.childNodes).some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
  const style = getComputedStyle(one);
  const [over, under] = [read(style.color), ground(one)].map(light).sort((a, b) => b - a);
  const ratio = (over + 0.05) / (under + 0.05);
  const key = `${one.tagName}.${one.className} has a contrast of ${ratio.toFixed(2)}`;
  const isLarge = parseFloat(style.fontSize) >= 24;
  if (ratio < (isLarge ? 3 : 4.5) && !seen.has(key)) {
    seen.add(key);
    wrong.push(key);
  }
}
return wrong;
