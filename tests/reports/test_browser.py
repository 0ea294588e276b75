"""The page in a real browser: script errors, pictures, sideways scrolling, sorting, themes."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

import bnnzoo as bz

sys.path.insert(0, str(Path(__file__).parent))
from _toy_study import registered

FLAGS = [
    "--headless",
    "--no-sandbox",  # the checks run as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REQUIRED = os.environ.get("BNNZOO_REQUIRE_BROWSER") == "1"


def missing(why):
    """Fail where a browser is required, else skip and say why."""
    if REQUIRED:
        pytest.fail(f"BNNZOO_REQUIRE_BROWSER=1, but {why}")
    pytest.skip(why)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        missing(f"{'chromium' if binary is None else 'chromedriver'} is not installed")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        missing("selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()


@pytest.fixture
def opened(browser, demo_page):
    """Opens a page at a width and in a theme, and hands back its console at the end."""

    def open_page(width, theme="light", file=demo_page):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": theme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(file.as_uri())
        assert browser.execute_script("return innerWidth") == width
        return browser

    yield open_page
    assert browser.get_log("browser") == []


def test_the_browser_would_tell_of_an_error(browser, tmp_path):
    """The console is really read: a page with a broken script has an entry in it."""
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><script>missing()</script>")
    browser.get(broken.as_uri())
    assert any("missing is not defined" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_are_whole_and_the_page_does_not_scroll_sideways(opened, width, theme):
    page = opened(width, theme)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    broken = "return [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length"
    assert page.execute_script(broken) == 0
    sizes = page.execute_script(
        "return [...document.querySelectorAll('svg.plot, svg.strip, svg.key')]"
        ".map(s => s.getBoundingClientRect()).map(r => [r.width, r.height])"
    )
    assert len(sizes) > 100 and all(w > 8 and h > 8 for w, h in sizes)
    fetched = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in fetched if not name.startswith("data:")] == []


def waiting(page):
    """How many sections the browser has not drawn yet."""
    return page.execute_script(
        "return [...document.querySelectorAll('section')].filter(s => s.firstElementChild"
        " && !s.firstElementChild.checkVisibility({contentVisibilityAuto: true})).length"
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_sections_of_a_long_page_wait_and_links_lead_to_them(opened, demo_page, tmp_path, width):
    long = tmp_path / "long.html"
    text = demo_page.read_text(encoding="utf-8")
    assert "<body>" in text  # of 24 runs: a picture of the whole page has all of them
    long.write_text(text.replace("<body>", '<body class="long">'), encoding="utf-8")
    page = opened(width, file=long)
    assert waiting(page) >= 3
    addresses = page.execute_script(
        "return [...document.querySelectorAll('.jump a')].map(a => a.getAttribute('href'))"
    )
    for address in (addresses[-1], addresses[0], addresses[len(addresses) // 2]):
        page.execute_script(
            "document.querySelector(`.jump a[href='${arguments[0]}']`).click()", address
        )
        time.sleep(0.5)  # what comes near is drawn now, and must not push the target away
        top = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
        bar = page.execute_script(
            "return document.querySelector(arguments[0]).closest('.block')"
            ".querySelector('.contents').getBoundingClientRect().bottom",
            address,
        )
        assert 20 <= bar <= 60, "the contents stay in sight"
        assert bar - 2 <= page.execute_script(top, address) <= bar + 40


@pytest.mark.parametrize("width", [1280, 400])
def test_no_text_of_a_plot_is_cut_off_or_overlaps_another(opened, width):
    page = opened(width)
    overlaps = page.execute_script(
        """
        const bad = [];
        for (const plot of document.querySelectorAll('svg.plot')) {
          const frame = plot.getBoundingClientRect();
          const boxes = [...plot.querySelectorAll('text')].map(t => [t, t.getBoundingClientRect()]);
          boxes.forEach(([t, a], i) => {
            if (a.left < frame.left - 4 || a.right > frame.right + 4)
              bad.push('cut: ' + t.textContent);
            for (const [u, b] of boxes.slice(i + 1)) {
              const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
              const tall = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
              if (wide > 1 && tall > 3) bad.push(t.textContent + ' on ' + u.textContent);
            }
          });
        }
        return bad;
        """
    )
    assert overlaps == []


def column(page, number):
    return page.execute_script(
        "return [...document.querySelectorAll('table.sortable')[0].tBodies[0].rows]"
        f".map(r => r.cells[{number}].dataset.v)"
    )


def heads(page):
    return page.find_elements("css selector", "table.sortable")[0].find_elements(
        "css selector", "thead th"
    )


def head_button(page, k):
    """The button of a column's head, in sight."""
    button = heads(page)[k].find_element("css selector", "button")
    page.execute_script(
        "arguments[0].scrollIntoView({block: 'center', inline: 'center'})",
        button,
    )
    return button


def test_tables_sort_by_mouse_and_by_key(opened):
    page = opened(1280)
    names = [h.text.split("\n")[0] for h in heads(page)]
    k = names.index("RMSE")
    assert column(page, 0) == [str(n) for n in range(1, 13)]
    button = head_button(page, k)
    button.click()
    rising = [float(v) for v in column(page, k)]
    assert rising == sorted(rising) and heads(page)[k].get_attribute("aria-sort") == "ascending"
    assert heads(page)[0].get_attribute("aria-sort") is None
    button.send_keys("\ue007")  # Enter
    falling = [float(v) for v in column(page, k)]
    assert falling == rising[::-1] and heads(page)[k].get_attribute("aria-sort") == "descending"
    rhat = names.index("R-hat")
    for _ in range(2):  # the run with one chain has none: last either way
        head_button(page, rhat).click()
        assert column(page, rhat)[-1] == "" and "" not in column(page, rhat)[:-1]
    prior = names.index("Prior")
    head_button(page, prior).click()
    assert column(page, prior) == sorted(column(page, prior))


def background(page):
    return page.execute_script("return getComputedStyle(document.body).backgroundColor")


def contrast(page, selector):
    """WCAG contrast of the text of the first such element with the page's background."""
    return page.execute_script(
        """
        const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
          .map(x => x <= 0.03928 ? x / 12.92 : Math.pow((x + 0.055) / 1.055, 2.4));
          return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
        const e = document.querySelector(arguments[0]);
        const a = lum(getComputedStyle(e)[arguments[1]]);
        const b = lum(getComputedStyle(document.body).backgroundColor);
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        """,
        selector,
        "fill" if "svg" in selector else "color",
    )


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_asks(opened, theme, width):
    """4.5 for each text in sight, against the nearest background behind it, opacities included."""
    page = opened(width, theme)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    faint = page.execute_script(
        """
        const parts = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
        const over = (a, alpha, b) => a.map((v, i) => alpha * v + (1 - alpha) * b[i]);
        const lum = v => { const w = v.map(x => x / 255)
          .map(x => x <= 0.03928 ? x / 12.92 : Math.pow((x + 0.055) / 1.055, 2.4));
          return 0.2126 * w[0] + 0.7152 * w[1] + 0.0722 * w[2]; };
        const behind = e => { for (; e; e = e.parentElement) {
          const c = parts(getComputedStyle(e).backgroundColor);
          if (c.length < 4 || c[3] > 0) return c.slice(0, 3); }
          return [255, 255, 255]; };
        const bad = {}; let seen = 0;
        for (const e of document.querySelectorAll('body *')) {
          const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
          const box = e.getBoundingClientRect();
          if (!own || e.closest('script, style, .vh, .skip') || box.width < 2) continue;
          const style = getComputedStyle(e), svg = e.ownerSVGElement;
          let alpha = 1;
          for (let p = e; p; p = p.parentElement) alpha *= Number(getComputedStyle(p).opacity);
          const back = behind(svg ? svg.closest('div, li, td, figure, span') : e);
          const text = over(parts(svg ? style.fill : style.color).slice(0, 3), alpha, back);
          const [x, y] = [lum(text), lum(back)];
          seen += 1;
          if ((Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05) < 4.5)
            bad[e.tagName + '.' + (e.className.baseVal ?? e.className)] = e.textContent.trim();
        }
        return [seen, bad];
        """
    )
    assert faint[0] > 500
    assert faint[1] == {}


def test_headings_tables_and_controls_say_what_they_are(opened):
    """The structure that a screen reader goes by: levels in order, heads of tables, names."""
    page = opened(1280)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    wrong = page.execute_script(
        """
        const bad = [], levels = [...document.querySelectorAll('h1, h2, h3, h4')];
        levels.reduce((before, h) => { const level = Number(h.tagName[1]);
          if (level > before + 1) bad.push('jump to ' + h.tagName + ' ' + h.textContent);
          return level; }, 0);
        if (document.querySelectorAll('h1').length !== 1) bad.push('h1');
        for (const t of document.querySelectorAll('th'))
          if (!t.getAttribute('scope') || !t.textContent.trim()) bad.push('th ' + t.textContent);
        for (const t of document.querySelectorAll('table'))
          if (!t.querySelector('th')) bad.push('table without heads');
        for (const e of document.querySelectorAll('button, a[href], summary'))
          if (!e.textContent.trim()) bad.push('nameless ' + e.outerHTML.slice(0, 80));
        for (const e of document.querySelectorAll('[role=img], [role=region], svg[role]'))
          if (!e.getAttribute('aria-label')) bad.push('unlabelled ' + e.outerHTML.slice(0, 80));
        for (const e of document.querySelectorAll('img'))
          if (!e.getAttribute('alt')) bad.push('img without alt');
        const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
        if (new Set(ids).size !== ids.length) bad.push('an id twice');
        for (const a of document.querySelectorAll('a[href^="#"]'))
          if (!document.getElementById(a.getAttribute('href').slice(1))) bad.push(a.outerHTML);
        return bad;
        """
    )
    assert wrong == []


def axe(page):
    """What axe-core finds of serious or critical impact: rule and the elements it blames."""
    from axe_selenium_python import Axe

    checker = Axe(page)
    checker.inject()
    return {
        finding["id"]: [node["html"][:120] for node in finding["nodes"]]
        for finding in checker.run()["violations"]
        if finding["impact"] in ("serious", "critical")
    }


@pytest.mark.validate
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_has_no_serious_finding(opened, theme, width):
    page = opened(width, theme)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert axe(page) == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_has_no_serious_finding_in_a_study(opened, theme, tmp_path):
    with registered():
        study = bz.run_study("toy", "smoke", tmp_path / "study", progress=False)
    assert axe(opened(1280, theme, study.page)) == {}
    assert axe(opened(400, theme, study.page)) == {}


def test_axe_would_find_a_picture_without_words(browser, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(
        "<!doctype html><html lang=en><title>t</title><main><img src='data:,'></main>"
    )
    browser.get(broken.as_uri())
    assert list(axe(browser)) == ["image-alt"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_are_legible(opened, theme):
    page = opened(1280, theme)
    assert background(page) == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}[theme]
    for selector in (
        "h1",
        "p.detail",
        "td .se",
        "td.alarm",
        "svg.plot text.tick",
        ".matrix td small",
    ):
        assert contrast(page, selector) >= 4.5, selector


def test_the_theme_can_be_chosen(opened):
    page = opened(1280, "light")
    button = page.find_element("id", "theme")
    seen = []
    for _ in range(4):
        seen.append((button.text, background(page)))
        button.click()
    assert [name for name, _ in seen] == [
        "Theme: auto",
        "Theme: light",
        "Theme: dark",
        "Theme: auto",
    ]
    assert seen[0] == seen[3] and seen[2][1] == "rgb(20, 22, 26)"
    page.execute_script("localStorage.clear()")


def test_tables_of_results_fit_a_usual_window(opened):
    page = opened(1280)
    wide = page.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility() &&"
        " e.scrollWidth > e.clientWidth).map(e => e.getAttribute('aria-label'))"
    )
    # Twelve runs against twelve need the room of their numbers, whatever the page does.
    assert [name for name in wide if not name.startswith("Pairwise")] == []


def test_wide_tables_scroll_inside_their_place_and_by_key(opened):
    page = opened(400)
    scrolling = page.execute_script(
        "return [...document.querySelectorAll('.scroll')]"
        ".filter(e => e.scrollWidth > e.clientWidth).map(e => [e.tabIndex, e.getAttribute('role')])"
    )
    assert len(scrolling) >= 6 and all(entry == [0, "region"] for entry in scrolling)
