//! Somebody at a browser: Debian's Chromium without a window, by its WebDriver.

use std::process::Command;

use anyhow::bail;
use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::{ParseError, Url};

use super::beside::Beside;
use crate::harness::eventually;
use crate::scene::SOON;

/// A browser with one page.
pub struct Browser {
    _driver: Beside,
    client: Client,
    /// Where the site is.
    site: String,
}

/// What the browser has in its log since it was last asked: a command of chromedriver's own.
#[derive(Debug)]
struct Log;

impl WebDriverCompatibleCommand for Log {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}

impl Browser {
    /// Opens one for a site, such as `http://10.200.0.2:30300`.
    pub async fn start(site: &str) -> Self {
        let port = |line: &str| Some(line.split("successfully on port ").nth(1)?.trim_end_matches('.').to_owned());
        let (driver, port) = Beside::start(Command::new("chromedriver").arg("--port=0"), port);
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"];
        let options = json!({"binary": "/usr/bin/chromium", "args": arguments});
        let wanted =
            json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted.as_object().expect("an object").clone());
        let client = builder.connect(&format!("http://127.0.0.1:{port}")).await.expect("a browser");
        Self { _driver: driver, client, site: site.to_owned() }
    }

    /// Goes to a page of the site.
    pub async fn open(&self, path: &str) {
        let url = format!("{}{path}", self.site);
        eventually(SOON, || async { Ok(self.client.goto(&url).await?) }).await;
    }

    /// Types into a field, as soon as that can be done.
    pub async fn fill(&self, selector: &str, text: &str) {
        eventually(SOON, || async { Ok(self.find(selector).await?.send_keys(text).await?) }).await;
    }

    /// Clicks on something, as soon as that can be done.
    pub async fn click(&self, selector: &str) {
        eventually(SOON, || async { Ok(self.find(selector).await?.click().await?) }).await;
    }

    async fn find(&self, selector: &str) -> anyhow::Result<Element> {
        Ok(self.client.find(Locator::Css(selector)).await?)
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
        let script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)";
        let texts = self.client.execute(script, vec![json!(selector)]).await?;
        let mut seen = texts.as_array().into_iter().flatten().filter_map(Value::as_str);
        if seen.any(|seen| seen.contains(text)) {
            return Ok(());
        }
        let page = self.client.execute("return location.href + ': ' + document.body.innerText", Vec::new()).await?;
        bail!("no {selector} has {text:?}: {texts}; {page}")
    }

    /// What the browser complained of since it was last asked: scripts that failed, what the content security policy forbade, what did not load.
    pub async fn complaints(&self) -> Vec<String> {
        self.severe(|_| true).await
    }

    /// The same without what did not load, as long as that is to be expected. That is forgotten.
    pub async fn faults(&self) -> Vec<String> {
        self.severe(|entry| entry["source"] != "network").await
    }

    async fn severe(&self, counts: impl Fn(&Value) -> bool) -> Vec<String> {
        let log = self.client.issue_cmd(Log).await.expect("its log");
        let severe = log.as_array().into_iter().flatten().filter(|entry| entry["level"] == "SEVERE" && counts(entry));
        severe.map(|entry| entry["message"].to_string()).collect()
    }
}
