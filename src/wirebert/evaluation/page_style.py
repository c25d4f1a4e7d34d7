"""The look of the report page: one style sheet, light and dark, on screen and on paper."""

from typing import Final

from wirebert.evaluation.plots import FAINT_INK, INK, RULE

STYLE: Final = f"""
:root {{ --ink: {INK}; --faint: {FAINT_INK}; --rule: {RULE}; --paper: #ffffff; --panel: #f6f8fa; --accent: #2459b8;
  --good: #1a7f37; --bad: #b3261e; color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6edf3; --faint: #9da7b3; --rule: #353c45; --paper: #0f1318; --panel: #181d24; --accent: #82b1ff;
    --good: #56d364; --bad: #ff8a80; }}
  svg [fill="{INK}"] {{ fill: var(--ink); }}
  svg [fill="{FAINT_INK}"] {{ fill: var(--faint); }}
  svg [stroke="{INK}"] {{ stroke: var(--ink); }}
  svg [stroke="{RULE}"] {{ stroke: var(--rule); }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }}
main, header, footer {{ max-width: 1080px; margin: 0 auto; padding: 0 20px; }}
header {{ padding-top: 36px; }}
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
.cards .more {{ color: var(--faint); font-size: .85rem; font-variant-numeric: tabular-nums; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 8px 24px;
  align-items: start; }}
.charts > .wide {{ grid-column: 1 / -1; }}
figure {{ margin: 0; overflow-x: auto; break-inside: avoid; }}
figure svg {{ display: block; max-width: 100%; height: auto; }}
figure.wide svg {{ max-width: none; }}
.scroll {{ overflow-x: auto; margin: 0 0 16px; }}
:focus-visible {{ outline: 3px solid var(--accent); outline-offset: 2px; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }}
caption {{ text-align: left; padding-bottom: 6px; font-size: .9rem; }}
th, td {{ padding: 5px 14px 5px 0; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top;
  white-space: nowrap; }}
th:first-child, td.text, th.text {{ text-align: left; }}
td.text {{ white-space: normal; overflow-wrap: break-word; min-width: 12ch; }}
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
footer {{ margin-top: 48px; padding-bottom: 32px; font-size: .88rem; }}
@media (max-width: 600px) {{
  main, header, footer {{ padding-left: 14px; padding-right: 14px; }}
  table {{ font-size: .85rem; }} th, td {{ padding-right: 10px; }}
}}
@media print {{
  :root {{ --ink: #000; --faint: #444; --rule: #bbb; --paper: #fff; --panel: #f3f3f3; --accent: #2459b8; }}
  svg [fill="{INK}"], svg [fill="{FAINT_INK}"] {{ fill: #000; }}
  svg [stroke="{RULE}"] {{ stroke: #bbb; }}
  body {{ font-size: 11pt; }} nav {{ display: none; }} h2, h3 {{ break-after: avoid; }} tr {{ break-inside: avoid; }}
  figure.wide svg {{ max-width: 100%; }} .scroll, figure {{ overflow: visible; }}
}}
"""
