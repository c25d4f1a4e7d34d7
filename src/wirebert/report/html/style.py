"""The look of the report page: one style sheet, light and dark, on screen and on paper."""

from typing import Final

from wirebert.report.plots.chart import FAINT_INK, INK, RULE

STYLE: Final = f"""
:root {{ --ink: {INK}; --faint: {FAINT_INK}; --rule: {RULE}; --paper: #ffffff; --panel: #f6f8fa; --accent: #2459b8;
  --second: #c9600c; --line: #818b98; --good: #1a7f37; --bad: #b3261e; color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6edf3; --faint: #9da7b3; --rule: #353c45; --paper: #0f1318; --panel: #181d24; --accent: #82b1ff;
    --second: #f0883e; --line: #6e7681; --good: #56d364; --bad: #ff8a80; }}
  svg [fill="{INK}"] {{ fill: var(--ink); }}
  svg [fill="{FAINT_INK}"] {{ fill: var(--faint); }}
  svg [stroke="{INK}"] {{ stroke: var(--ink); }}
  svg [stroke="{RULE}"] {{ stroke: var(--rule); }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; overflow-wrap: break-word; }}
main, header {{ max-width: 1080px; margin: 0 auto; padding: 0 20px; }}
header {{ padding-top: 36px; }} main {{ padding-bottom: 48px; }}
h1 {{ font-size: 1.75rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.25rem; margin: 44px 0 12px; padding-top: 14px; border-top: 1px solid var(--rule); }}
h3 {{ font-size: 1.02rem; margin: 28px 0 8px; }}
p {{ margin: 0 0 12px; max-width: 75ch; }}
.faint, figcaption, caption {{ color: var(--faint); }}
.verdict {{ background: var(--panel); border-left: 4px solid var(--accent); border-radius: 6px; padding: 16px 20px 6px;
  margin: 20px 0; }}
.verdict p:first-of-type {{ font-size: 1.12rem; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0; padding: 0; }}
.cards > div {{ background: var(--panel); border-radius: 6px; padding: 12px 16px; }}
.cards dt {{ color: var(--faint); font-size: .88rem; }}
.cards dd {{ margin: 0; }}
.cards .value {{ font-size: 1.7rem; font-weight: 650; font-variant-numeric: tabular-nums; }}
.cards .more span {{ white-space: nowrap; }}
.cards .more {{ color: var(--faint); font-size: .85rem; font-variant-numeric: tabular-nums; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 20px 28px;
  align-items: start; margin: 0 0 20px; }}
.charts > * {{ min-width: 0; }}
.charts > .wide {{ grid-column: 1 / -1; }}
figure {{ margin: 0; break-inside: avoid; position: relative; }}
.charts .picture {{ margin: 0; }}
.picture svg {{ display: block; max-width: 100%; height: auto; }}
.wide .picture svg {{ max-width: none; }}
.vega-embed {{ display: block; }}
.picture .mark-text {{ pointer-events: none; }}
.switches {{ display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 2px 8px; font-size: .88rem; align-items: center; }}
.switches[hidden] {{ display: none; }}
.switches fieldset {{ border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: center; }}
.switches legend {{ float: left; padding: 0; margin-right: 10px; color: var(--faint); }}
.switches label {{ display: inline-flex; gap: 5px; align-items: center; }}
select, .zoom button {{ font: inherit; color: var(--ink); background: var(--panel); border: 1px solid var(--line);
  border-radius: 5px; padding: 2px 6px; max-width: 100%; }}
input[type="radio"] {{ accent-color: var(--accent); }}
.zoom {{ position: absolute; right: 0; top: 4px; display: flex; gap: 4px; z-index: 1; }}
figure:has(.switches) .zoom {{ top: 32px; }}
.zoom button {{ min-width: 28px; min-height: 26px; font-size: .82rem; cursor: pointer; color: var(--faint); }}
#vg-tooltip-element.vg-tooltip {{ position: fixed; visibility: hidden; pointer-events: none; z-index: 9; padding: 6px 10px;
  border-radius: 6px; background: var(--paper); color: var(--ink); border: 1px solid var(--line);
  box-shadow: 0 2px 10px rgb(0 0 0 / 25%); font-size: .85rem; max-width: 320px; }}
#vg-tooltip-element.visible {{ visibility: visible; }}
#vg-tooltip-element table {{ font-size: inherit; }}
#vg-tooltip-element td {{ border: 0; padding: 1px 4px; white-space: normal; }}
#vg-tooltip-element td.key {{ color: var(--faint); text-align: right; }}
#vg-tooltip-element td.value {{ text-align: left; overflow-wrap: anywhere; }}
.mistakes details {{ border-bottom: 1px solid var(--rule); padding: 4px 0; }}
.mistakes summary {{ color: var(--ink); }}
.pairs {{ display: flex; flex-wrap: wrap; gap: 6px; margin: 6px 0 12px; }}
.pairs div {{ display: flex; gap: 6px; padding: 1px 8px; border: 1px solid var(--rule); border-radius: 5px; max-width: 100%;
  font: .82rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  border-bottom: calc(1px + 4px * var(--strength, 0)) solid color-mix(in srgb, var(--second) calc(100% * var(--strength, 0)), var(--rule)); }}
.pairs dt {{ color: var(--faint); overflow-wrap: anywhere; }} .pairs dt::after {{ content: ":"; }}
.pairs dd {{ margin: 0; overflow-wrap: anywhere; }}
.doubts {{ margin: 0; padding-left: 20px; }} .doubts li {{ margin-bottom: 8px; }}
.unseen {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }}
.skip {{ position: absolute; left: -999px; top: 0; }} .skip:focus {{ left: 20px; top: 6px; }}
.scroll {{ overflow-x: auto; margin: 0 0 16px; }}
:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }}
caption {{ text-align: left; padding-bottom: 6px; font-size: .9rem; }}
th, td {{ padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top;
  white-space: nowrap; }}
th:first-child, td.text, th.text {{ text-align: left; }}
td.text, th.text {{ white-space: normal; overflow-wrap: break-word; min-width: 12ch; }}
td.long {{ min-width: 28ch; max-width: 70ch; }}
thead th {{ color: var(--faint); font-weight: 500; }}
tbody th {{ font-weight: 500; }}
.range {{ color: var(--faint); font-size: .86em; white-space: nowrap; display: inline-block; }}
.error {{ color: var(--bad); font-weight: 600; }} .warning {{ font-weight: 600; }}
code, pre {{ font: .88rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }}
pre {{ background: var(--panel); border-radius: 6px; padding: 12px 14px; white-space: pre-wrap; overflow-wrap: anywhere; }}
summary {{ cursor: pointer; padding: 4px 0; color: var(--accent); }}
nav ul {{ display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; padding: 0; margin: 12px 0 0; }}
a {{ color: var(--accent); }}
@media (max-width: 600px) {{
  main, header {{ padding-left: 14px; padding-right: 14px; }}
  table {{ font-size: .85rem; }} th, td {{ padding-right: 10px; }} td .range, th .range {{ display: block; }}
  tbody th, tbody th .range {{ white-space: normal; min-width: 12ch; overflow-wrap: anywhere; }}
  .cells .picture svg {{ max-width: none; }}
}}
@media print {{
  :root {{ --ink: #000; --faint: #444; --rule: #bbb; --paper: #fff; --panel: #f3f3f3; --accent: #2459b8; }}
  svg [fill="{INK}"], svg [fill="{FAINT_INK}"] {{ fill: #000; }}
  svg [stroke="{RULE}"] {{ stroke: #bbb; }}
  body {{ font-size: 11pt; }} nav {{ display: none; }} h2, h3 {{ break-after: avoid; }} tr {{ break-inside: avoid; }}
  .picture svg {{ min-width: 0 !important; max-width: 100% !important; }} .scroll {{ overflow: visible; }} .switches, .zoom, .skip {{ display: none !important; }}
  table {{ font-size: 8.5pt; }}
}}
"""
