//! Somebody at a browser: Debian's Chromium without a window, by what little of the W3C WebDriver protocol that takes.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::beside::Beside;
use super::http::{ask, request};
use crate::harness::eventually;
use crate::scene::SOON;

/// How WebDriver names an element in an answer.
const ELEMENT: &str = "/element-6066-11e4-a52e-4f735466cecf";

/// A browser with one page.
pub struct Browser {
    _driver: Beside,
    address: String,
    session: String,
    /// Where the site is.
    site: String,
}

impl Browser {
    /// Opens one for a site, such as `http://10.200.0.2:30300`.
    pub async fn start(site: &str) -> Self {
        let port = |line: &str| Some(line.split("successfully on port ").nth(1)?.trim_end_matches('.').to_owned());
        let (driver, port) = Beside::start(Command::new("chromedriver").arg("--port=0"), port);
        let mut browser = Self {
            _driver: driver,
            address: format!("127.0.0.1:{port}"),
            session: String::new(),
            site: site.to_owned(),
        };
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"];
        let options = json!({"binary": "/usr/bin/chromium", "args": arguments});
        let wanted =
            json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let answer =
            browser.tell("/session", &json!({"capabilities": {"alwaysMatch": wanted}})).await.expect("a browser");
        let session = answer["sessionId"].as_str().expect("a session");
        browser.session = format!("/session/{session}");
        browser
    }

    async fn tell(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let command = request("POST", &self.address, path, "", Some(body));
        let (status, answer) = ask(&self.address, command).await?;
        let answer: Value = serde_json::from_str(&answer).context("no JSON")?;
        ensure!(status.is_success(), "{path}: {}", answer["value"]["message"]);
        Ok(answer["value"].clone())
    }

    /// Does something to the element that a CSS selector finds, as soon as that can be done.
    async fn with(&self, selector: &str, action: &str, body: &Value) {
        eventually(SOON, || async {
            let found = self.tell(&self.at("/element"), &json!({"using": "css selector", "value": selector})).await?;
            let element = found.pointer(ELEMENT).and_then(Value::as_str).context("no element")?;
            self.tell(&self.at(&format!("/element/{element}/{action}")), body).await
        })
        .await;
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.session)
    }

    /// Goes to a page of the site.
    pub async fn open(&self, path: &str) {
        let url = format!("{}{path}", self.site);
        eventually(SOON, || async { self.tell(&self.at("/url"), &json!({"url": url})).await }).await;
    }

    /// Types into a field.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.with(selector, "value", &json!({"text": text})).await;
    }

    /// Clicks on something.
    pub async fn click(&self, selector: &str) {
        self.with(selector, "click", &json!({})).await;
    }

    /// What a function body in JavaScript returns.
    async fn run(&self, script: &str) -> anyhow::Result<Value> {
        self.tell(&self.at("/execute/sync"), &json!({"script": script, "args": []})).await
    }

    /// Waits until one of the elements that a selector finds has this text in it.
    pub async fn sees(&self, selector: &str, text: &str) {
        eventually(SOON, || self.shows(selector, text)).await;
    }

    /// The same on a page that is opened anew until it shows it: as a person does who is told to try again.
    pub async fn finds(&self, path: &str, selector: &str, text: &str) {
        eventually(SOON, || async {
            self.open(path).await;
            self.shows(selector, text).await
        })
        .await;
    }

    async fn shows(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        let script = format!("return [...document.querySelectorAll({selector:?})].map(e => e.textContent)");
        let texts = self.run(&script).await?;
        let mut seen = texts.as_array().into_iter().flatten().filter_map(Value::as_str);
        if seen.any(|seen| seen.contains(text)) {
            return Ok(());
        }
        let page = self.run("return location.href + ': ' + document.body.innerText").await?;
        anyhow::bail!("no {selector} has {text:?}: {texts}; {page}")
    }

    /// What it complained of until now was to be expected.
    pub async fn forget_complaints(&self) {
        self.complaints().await;
    }

    /// What the browser complained of since it was last asked: scripts that failed, and what the content security policy forbade.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.tell(&self.at("/se/log"), &json!({"type": "browser"})).await.expect("its log");
        let severe = log.as_array().into_iter().flatten().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }
}
