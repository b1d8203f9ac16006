// Which frameworks are shown: one choice for all pages, kept in the URL (?show=torch,jax) and in the browser's storage.
// As many columns as there is room for: three, two, or one. What the reader looks at stays where it is.
(() => {
  const titles = { torch: "PyTorch", jax: "JAX", tf: "TensorFlow" };
  const all = Object.keys(titles);
  const root = document.documentElement;
  const blocks = document.querySelectorAll(".mirror:not(.mirror-same), table.idioms");
  if (!blocks.length) return;

  const three = matchMedia("(min-width: 78rem)");
  const two = matchMedia("(min-width: 52rem)");
  const room = () => (three.matches ? 3 : two.matches ? 2 : 1);
  const named = (text) => (text || "").split(",").filter((name) => all.includes(name));
  const stored = (value) => {
    try {
      if (value) localStorage.setItem("frameworks", value);
      return localStorage.getItem("frameworks");
    } catch {
      return null; // a browser may refuse to store
    }
  };
  const asked = named(new URLSearchParams(location.search).get("show"));
  const kept = named(stored());
  let wanted = asked.length ? asked : kept.length ? kept : all; // those chosen last come first
  const shown = () => all.filter((name) => wanted.slice(0, room()).includes(name));

  const bar = document.createElement("div");
  bar.className = "mirror-bar";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Frameworks shown");
  for (const name of all) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: titles[name], className: `of-${name}` });
    button.dataset.framework = name;
    button.addEventListener("click", () => choose(name));
    bar.append(button);
  }

  function draw() {
    root.dataset.show = shown().join(" ");
    root.style.setProperty("--columns", shown().length);
    for (const button of bar.children) button.setAttribute("aria-pressed", shown().includes(button.dataset.framework));
  }

  function choose(name) {
    const now = shown();
    const others = wanted.filter((one) => one !== name);
    wanted = room() > 1 && now.includes(name) && now.length > 1 ? others : [name, ...others];
    const top = bar.getBoundingClientRect().bottom;
    const read = [...blocks].find((block) => block.getBoundingClientRect().bottom > top) || blocks[0];
    const before = read.getBoundingClientRect().top;
    draw();
    scrollBy({ top: read.getBoundingClientRect().top - before, behavior: "instant" });
    const url = new URL(location);
    url.searchParams.delete("show");
    url.search += `${url.search ? "&" : "?"}show=${shown().join(",")}`;
    history.replaceState(null, "", url);
    stored(wanted.join(","));
  }

  // Above the section of the first block; not inside what scrolls, where the bar could not stick to the window.
  const first = blocks[0];
  (first.closest("section section") || first.closest(".pst-scrollable-table-container") || first).before(bar);
  for (const media of [two, three]) media.addEventListener("change", draw);
  const header = document.querySelector(".bd-header");
  const measure = () => root.style.setProperty("--mirror-top", `${header ? header.offsetHeight : 0}px`);
  addEventListener("resize", measure);
  measure();
  draw();
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) target.scrollIntoView({ behavior: "instant" }); // the blocks above it have changed their height
})();
