//! What the pages look like: on a phone and a desktop, light and dark, everything fits and can be read.

use fantoccini::{Locator, error::CmdError};
use serde_json::{Value, json};

use super::{Browser, browse, sign_up};
use crate::scene::{PASSWORD, Scene};

/// What is wrong with how the page looks: text whose contrast to what is behind it is below 4.5 (WCAG 2.2 AA), what is wider
/// than the window, fields and buttons without a name, ones too small for a finger, ids twice.
const FAULTS: &str = r#"
const faults = [];
const parse = (color) => { const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
const light = (rgb) => {
  const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const { rgb, a } = parse(getComputedStyle(at).backgroundColor);
    if (a === 1) return rgb;
    if (a !== 0) faults.push(`a half transparent background: ${at.outerHTML.slice(0, 80)}`);
  }
  return [255, 255, 255];
};
const readable = (color, element, what) => {
  const [high, low] = [light(parse(color).rgb), light(behind(element))].sort((a, b) => b - a);
  const contrast = (high + 0.05) / (low + 0.05);
  if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)}: ${what}`);
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let read = 0;
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  const text = texts.currentNode.data.trim();
  if (!text || !element.checkVisibility() || element.closest(".unseen, .skip")) continue;
  readable(getComputedStyle(element).color, element, text);
  read += 1;
}
for (const field of document.querySelectorAll("input:not([type=hidden]), textarea")) {
  if (field.placeholder) readable(getComputedStyle(field, "::placeholder").color, field, field.placeholder);
  if (!field.labels.length) faults.push(`no label: ${field.id}`);
}
for (const button of document.querySelectorAll("button, .button, input:not([type=hidden]), textarea")) {
  if (!button.innerText?.trim() && !button.ariaLabel && !button.labels.length) faults.push(`no name: ${button.outerHTML}`);
  const { width, height } = button.getBoundingClientRect();
  if (button.checkVisibility() && (width < 40 || height < 40)) faults.push(`small: ${button.outerHTML.slice(0, 80)}`);
}
const page = document.documentElement;
if (page.scrollWidth > page.clientWidth) faults.push(`wider than the window: ${page.scrollWidth} > ${page.clientWidth}`);
if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
if (document.querySelectorAll("main").length !== 1) faults.push("not one main");
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
if (new Set(ids).size !== ids.length) faults.push("ids twice");
if (!read) faults.push("nothing to read");
return faults;
"#;

async fn look(browser: &Browser, name: &str) -> Result<(), CmdError> {
    for (width, height) in [(360, 740), (1280, 900)] {
        resize(browser, width, height).await?;
        for scheme in ["light", "dark"] {
            let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
            browser.devtools("Emulation.setEmulatedMedia", features).await?;
            let faults = browser.execute(FAULTS, vec![]).await?;
            assert_eq!(faults, json!([]), "{name}, {width} pixels wide, {scheme}");
            shoot(browser, width, &format!("{name}-{width}-{scheme}.png")).await?;
        }
    }
    Ok(())
}

pub async fn resize(browser: &Browser, width: u64, height: u64) -> Result<(), CmdError> {
    let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
    browser.devtools("Emulation.setDeviceMetricsOverride", screen).await.map(drop)
}

/// Keeps a picture of the whole page, if `TODO_SCREENSHOTS` names a directory for it.
async fn shoot(browser: &Browser, width: u64, name: &str) -> Result<(), CmdError> {
    if let Some(directory) = std::env::var_os("TODO_SCREENSHOTS") {
        let height = browser.execute("return document.documentElement.scrollHeight", vec![]).await?;
        resize(browser, width, height.as_u64().unwrap()).await?;
        let picture = browser.screenshot().await?;
        std::fs::write(std::path::Path::new(&directory).join(name), picture).unwrap();
    }
    Ok(())
}

#[tokio::test]
async fn everything_fits_and_can_be_read_on_phone_and_desktop_light_and_dark() {
    let scene = Scene::start().await;
    browse(async |browser| {
        browser.goto(&format!("{}/signin?notice=expired", scene.url)).await?;
        look(browser, "sign-in").await?;
        browser.fill("#email", "nobody@example.org").await?;
        browser.fill("#password", PASSWORD).await?;
        browser.click("button[type=submit]").await?;
        browser.see(".error").await?;
        look(browser, "sign-in-error").await?;
        browser.goto(&format!("{}/signup", scene.url)).await?;
        look(browser, "sign-up").await?;
        sign_up(browser, &scene).await?;
        look(browser, "empty").await?;

        for task in ["Water the plants", "Call the dentist", "Buy milk", &"Averyveryverylongword".repeat(8)] {
            scene.backend.add(crate::scene::EMAIL, task);
        }
        let details: Value = "Two litres,\nand a small one for Bob".into();
        scene.backend.world().tasks[2].1["description"] = details;
        scene.backend.world().tasks[1].1["completed"] = true.into();
        for said in ["add Read Dijkstra’s notes", "What is left for today?", "fail"] {
            browser.fill("#chat-input", said).await?;
            browser.click("form#chat button").await?;
            browser.see("form#chat button:not(:disabled)").await?;
        }
        browser.see("#messages .error").await?;
        browser.click("#chat-title").await?;
        look(browser, "chat-script").await?;
        browser.refresh().await?;
        look(browser, "home").await?;
        browser.goto(&format!("{}/?conversation=new", scene.url)).await?;
        browser.click("summary").await?;
        look(browser, "conversations").await?;
        browser.click("li[data-id='t-3'] .what a").await?;
        look(browser, "edit").await?;
        scene.backend.world().broken = Some("down".to_owned());
        browser.goto(&format!("{}/", scene.url)).await?;
        look(browser, "problem").await?;
        let told = browser.find(Locator::Css("[role=alert]")).await?.text().await?;
        assert!(told.contains("has a problem at the moment"), "{told}");
        Ok(())
    })
    .await;
}
