(() => {
  const table = JSON.parse(document.getElementById("sweep").textContent);
  const slider = document.getElementById("slider"), marker = document.getElementById("marker");
  const share = (part, whole) => whole ? part / whole : NaN;
  const words = value => Number.isNaN(value) ? "–" : (100 * value).toFixed(1) + " %";
  const put = (name, value) => { document.getElementById(name).textContent = value; };
  function show() {
    const at = Number(slider.value), [tn, fp, fn, tp] = ["tn", "fp", "fn", "tp"].map(name => table[name][at]);
    const threshold = table.threshold[at], whole = tn + fp + fn + tp;
    put("at", threshold.toFixed(4));
    slider.setAttribute("aria-valuetext", "threshold " + threshold.toFixed(4));
    put("live-mismatch-precision", words(share(tn, tn + fn)));
    put("live-mismatch-recall", words(share(tn, tn + fp)));
    put("live-mismatch-f1", words(share(2 * tn, 2 * tn + fn + fp)));
    put("live-match-precision", words(share(tp, tp + fp)));
    put("live-match-recall", words(share(tp, tp + fn)));
    put("live-match-f1", words(share(2 * tp, 2 * tp + fp + fn)));
    put("live-accuracy", words(share(tp + tn, whole)));
    put("live-alarm", words(share(tn + fn, whole)));
    put("live-counts", `${tn} mismatches caught, ${fp} missed; ${fn} false alarms`);
    const [low, high] = table.span, {left, right, top, bottom} = table.axes;
    const x = Math.min(1, Math.max(0, (threshold - low) / (high - low)));
    Object.assign(marker.style, {left: 100 * (left + (right - left) * x) + "%", top: 100 * (1 - top) + "%", bottom: 100 * bottom + "%"});
  }
  slider.addEventListener("input", show);
  document.getElementById("reset").addEventListener("click", () => { slider.value = table.chosen; show(); });
  show();
})();
