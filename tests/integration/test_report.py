"""``bserkit report`` from the command line to a page in a real browser: offline, narrow, dark, printed, read aloud."""

from __future__ import annotations

import html
import re
import shutil

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

EVIL = "<script>alert(1)</script>"
SECTIONS = [
    "Result",
    "Protocol",
    "Channels, folds, speakers, emotions",
    "Confusion matrices",
    "Fusion weights",
    "What the channels look like",
    "Running it again",
    "Parameters and versions",
]
#: Horizontal room that a page asks for beyond its window, pixels.
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture(scope="module")
def ended(run_cli, lab, first_run):
    """What became of reports of the first run: by its id, by it again, of no run, and into no folder."""
    given = {
        "id": (first_run.id[:12],),
        "again": (first_run.id, "--out", "again.html"),
        "no run": ("nothing",),
        "no folder": (first_run.id, "--out", "nowhere/page.html"),
    }
    return {kind: run_cli("report", *arguments, cwd=lab) for kind, arguments in given.items()}


@pytest.fixture(scope="module")
def written(ended, lab, first_run):
    """The report of the first run, as a file."""
    assert ended["id"].returncode == 0, ended["id"].stderr
    path = lab / f"report-{first_run.id[:8]}.html"
    assert ended["id"].stdout == f"Report of run {first_run.id} ({first_run.name}) in {path}\n"
    return path


@pytest.fixture(scope="module")
def oracle(run_cli, read_run, manifest, rows, fast, tmp_path_factory):
    """A run with an oracle on a corpus whose label, speaker and name would like to be a page, and its report."""
    folder = tmp_path_factory.mktemp("oracle")
    renamed = [(path, {"glad": EVIL}.get(label, label), f"<i>{speaker}</i>") for path, label, speaker in rows]
    options = ("--fusion", "two-stage:tune=oracle", "--run-name", f'"><img src=x onerror=alert(1)>{EVIL}')
    ran = run_cli("run", manifest("evil.csv", renamed), *fast, *options, cwd=folder)
    assert ran.returncode == 0, ran.stderr
    run = read_run(folder, ran)
    ended = run_cli("report", run.id, "--out", "page.html", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return run, folder / "page.html"


@pytest.fixture(scope="module")
def browser():
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("there is no browser: neither chromium nor google-chrome is on the PATH")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found[0])
        yield started
        started.close()


@pytest.fixture
def show(browser):
    """Open a file in a window of its own; whatever it complains of, asks for or pops up fails the test."""
    opened, complaints = [], []

    def open_file(path, width=1280, scheme="light", **settings):
        context = browser.new_context(
            offline=True, color_scheme=scheme, viewport={"width": width, "height": 900}, **settings
        )
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda one: complaints.append(one.url) if not one.url.startswith(("file:", "data:")) else 0)
        page.goto(path.as_uri())
        opened.append(context)
        return page

    yield open_file
    for context in opened:
        context.close()
    assert complaints == []


def test_the_same_run_gives_the_same_page(ended, lab, written):
    assert ended["again"].returncode == 0, ended["again"].stderr
    assert (lab / "again.html").read_bytes() == written.read_bytes()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no run", "There is no run 'nothing' in experiment 'bserkit'"),
        ("no folder", "there is no folder nowhere"),
    ],
)
def test_a_report_that_cannot_be_made_says_why(ended, kind, said):
    assert ended[kind].returncode == 2
    assert said in ended[kind].stderr
    assert "Traceback" not in ended[kind].stderr


def rows_of(page, title):
    """Return the cells of a page's table, the header first, by the beginning of its caption."""
    (table,) = re.findall(rf"<caption[^>]*><span>{re.escape(title)}.*?</table>", page, re.DOTALL)
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_a_page_has_the_numbers_that_the_run_logged(written, first_run):
    page = written.read_text()
    for name in ("uar", "accuracy"):
        low, value, high = (f"{first_run.metrics[f'{name}{end}']:.3f}" for end in ("_low", "", "_high"))
        assert f"{value} [{low}, {high}]" in page
    results = pd.read_csv(first_run.artifacts / "results.csv").set_index(["fold", "part"])
    header, *folds = rows_of(page, "Fold by fold")
    assert [fold[0] for fold in folds] == ["ann", "bob", "cat", "dan"]
    for fold in folds:
        logged = results.loc[fold[0]]["uar"]
        shown = dict(zip(header, fold, strict=True))
        assert {part: shown["UAR" if part == "fusion" else part] for part in logged.index} == {
            part: f"{value:.3f}" for part, value in logged.items()
        }
    confusion = pd.read_csv(first_run.artifacts / "confusion.csv").set_index(["part", "label"])
    for part in ("fusion", "left", "ms"):
        for label, *cells in rows_of(page, f"Confusion of {part}")[1:]:
            counts = [int(re.search(r">(\d+)</span>", cell)[1]) for cell in cells]
            assert counts == confusion.loc[part, label].tolist()


def test_a_page_has_the_protocol_and_configuration(written, first_run):
    page = written.read_text()
    card = {row[0]: row[1] for row in rows_of(page, "Protocol card")[1:]}
    assert card["content of the corpus"] == first_run.tags["corpus.fingerprint"]
    assert card["utterances"] == "36 usable, 36 tested, 0 left out"
    assert ["ann", "bob, cat, dan", "ann", "27", "9"] in rows_of(page, "Who was in training")
    assert "bserkit run --config config.toml" in page
    assert html.escape((first_run.artifacts / "config.toml").read_text().strip()).replace("&quot;", "&#34;") in page
    assert dict(rows_of(page, "Parameters")[1:]) == dict(first_run.params)


def test_a_run_logs_what_its_channels_look_like(first_run, rows):
    example = pd.read_csv(first_run.artifacts / "channels.csv")
    assert example["channel"].tolist() == ["left", "right", "mid", "side"]
    assert set(example["utterance"]) == {min(path for path, _, _ in rows)}
    assert (example["low"] < example["mean"]).all()
    assert (example["mean"] < example["high"]).all()
    assert (first_run.artifacts / "channels.png").read_bytes().startswith(b"\x89PNG")


def test_the_oracle_is_shown_apart_from_the_result(oracle):
    run, path = oracle
    header, inner, other, optimism = rows_of(path.read_text(), "Inner and oracle fusion")
    for column, name in enumerate(header[2:], start=2):
        metric = {"UAR": "uar", "macro F1": "macro_f1"}.get(name, name)
        assert inner[column] == f"{run.metrics[metric]:.3f}"
        assert other[column] == f"{run.metrics[f'oracle_{metric}']:.3f}"
    assert optimism[2:4] == [f"{run.metrics[f'oracle_optimism_{name}']:+.3f}" for name in ("uar", "accuracy")]


def test_names_that_would_like_to_be_a_page_are_text(oracle, show):
    run, path = oracle
    page = show(path)
    assert page.get_by_role("heading", level=1).inner_text() == run.name
    assert page.locator("script").count() == 0
    assert page.locator("img").count() == 1
    assert page.get_by_role("columnheader", name=EVIL).count() >= 7
    assert page.get_by_role("rowheader", name="<i>ann</i>").count() >= 2


def test_pages_are_readable_by_screen_readers(written, show):
    page = show(written)
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    told = {}
    for node in nodes:
        if not node["ignored"]:
            told.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    heading, *headings = told["heading"]
    assert heading == page.locator("h1").inner_text()
    assert [name for name in headings if name in SECTIONS] == SECTIONS
    assert len(told["main"]) == len(told["banner"]) == len(told["contentinfo"]) == 1
    assert told["navigation"] == ["Sections"]
    assert len(told["table"]) == page.locator("table").count() > 15
    assert all(told["table"])
    assert len(set(told["table"])) == len(told["table"])
    assert set(told["table"]) <= set(told["region"])
    # One of the intervals, one of each of three searches, one of the spectrograms.
    assert len(told["image"]) == 5
    assert all(re.search(r"\d\.\d", name) for name in told["image"])


def test_table_cells_have_row_and_column_headers(written, show):
    page = show(written)
    confusion = page.get_by_role("region", name="Confusion of fusion")
    assert confusion.get_by_role("columnheader").all_inner_texts() == ["true", "calm", "glad", "mad"]
    assert confusion.get_by_role("rowheader").all_inner_texts() == ["calm", "glad", "mad"]
    assert confusion.get_by_role("cell").count() == 9


def test_a_page_is_read_with_the_keyboard_alone(written, show):
    page = show(written, width=320)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    region = page.evaluate("document.activeElement.getAttribute('aria-labelledby')")
    assert page.locator(f"#{region}").inner_text() == "Protocol card"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_breaks_no_rule_of_accessibility(oracle, show, scheme):
    # What axe is allowed to do is not what the page may do.
    page = show(oracle[1], scheme=scheme, bypass_csp=True)
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


def test_dark_is_dark(written, show):
    backgrounds = [
        show(written, scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    light, dark = (sum(map(int, re.findall(r"\d+", one))) for one in backgrounds)
    assert light > 700
    assert dark < 100


# 640 pixels are what is left of 1280 at 200%.
@pytest.mark.parametrize("width", [320, 640])
def test_wide_tables_scroll_in_narrow_windows(oracle, show, width):
    page = show(oracle[1], width=width)
    assert page.evaluate(OVERFLOW) == 0
    wide = page.get_by_role("region", name="Speaker by speaker")
    assert wide.evaluate("region => region.scrollWidth - region.clientWidth") > (0 if width == 320 else -1)
    assert wide.get_attribute("tabindex") == "0"


def test_a_printed_page_has_every_section_on_white(written, show, tmp_path):
    page = show(written, scheme="dark")
    assert page.pdf(path=tmp_path / "page.pdf", format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for title in SECTIONS:
        assert page.get_by_role("heading", name=title, exact=True).is_visible()
    assert not page.get_by_role("navigation").is_visible()
    # A4 less its margins, in CSS pixels: no table is cut at the right.
    page.set_viewport_size({"width": 688, "height": 1000})
    assert page.evaluate(OVERFLOW) == 0
