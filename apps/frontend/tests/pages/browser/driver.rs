//! Chromium by chromedriver, one browser at a time.

use std::{ops::Deref, panic::AssertUnwindSafe, process::Stdio, time::Duration};

use fantoccini::{
    Client, ClientBuilder, Locator,
    error::CmdError,
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use futures::FutureExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::Mutex,
};

/// Browsers are large: one is enough.
static ONE: Mutex<()> = Mutex::const_new(());

/// How long something may take to appear; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one window.
pub struct Browser(Client);

impl Deref for Browser {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

/// A command of chromedriver's own.
#[derive(Debug)]
struct Own(&'static str, Value);

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as std::str::FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.1.to_string()))
    }
}

impl Browser {
    pub async fn see(&self, css: &str) -> Result<fantoccini::elements::Element, CmdError> {
        self.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await
    }

    /// Waits until the text of an element is `text`.
    pub async fn reads(&self, css: &str, text: &str) -> Result<(), CmdError> {
        let script = "return document.querySelector(arguments[0])?.innerText.trim() === arguments[1]";
        self.becomes(script, &[json!(css), json!(text)]).await
    }

    /// Clicks, and waits for the page that this leads to.
    pub async fn follow(&self, css: &str) -> Result<(), CmdError> {
        self.execute("window.left = false", vec![]).await?;
        self.click(css).await?;
        self.becomes("return window.left === undefined && document.readyState === 'complete'", &[]).await
    }

    /// Waits until a script says that it is so.
    async fn becomes(&self, script: &str, arguments: &[Value]) -> Result<(), CmdError> {
        let there = async || self.execute(script, arguments.to_vec()).await.map(|found| found == true);
        let waited = tokio::time::timeout(PATIENCE, async {
            while !there().await? {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        });
        match waited.await {
            Ok(waited) => waited,
            Err(_) => panic!("never so: {script} {arguments:?}: {}", self.source().await?),
        }
    }

    pub async fn fill(&self, css: &str, text: &str) -> Result<(), CmdError> {
        self.see(css).await?.send_keys(text).await
    }

    pub async fn click(&self, css: &str) -> Result<(), CmdError> {
        self.see(css).await?.click().await
    }

    /// What the browser has complained about since the last time: errors of scripts, violations of the policy. That a
    /// request was answered with an error it says as well; that is no fault of the page.
    pub async fn complaints(&self) -> Result<Vec<String>, CmdError> {
        let log = self.issue_cmd(Own("se/log", json!({ "type": "browser" }))).await?;
        let entries = log.as_array().unwrap().iter().filter(|entry| entry["source"] != "network");
        Ok(entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect())
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Result<Value, CmdError> {
        self.issue_cmd(Own("goog/cdp/execute", json!({ "cmd": command, "params": parameters }))).await
    }
}

/// Starts a browser for `visit`, and ends it whatever happens.
pub async fn browse(visit: impl AsyncFnOnce(&Browser) -> Result<(), CmdError>) {
    let _one = ONE.lock().await;
    let (mut driver, url) = chromedriver().await;
    let browser = ClientBuilder::new(HttpConnector::new()).capabilities(capabilities()).connect(&url).await;
    let browser = Browser(browser.expect("chromedriver starts chromium"));
    // A panic would leave the browser running.
    let visited = AssertUnwindSafe(visit(&browser)).catch_unwind().await;
    browser.0.close().await.unwrap();
    driver.kill().await.unwrap();
    match visited {
        Ok(visited) => visited.unwrap(),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn capabilities() -> Capabilities {
    // Chromium's own sandbox needs user namespaces, which containers and root lack.
    let options =
        json!({ "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"] });
    let capabilities = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
    capabilities.as_object().unwrap().clone()
}

/// Without one the test fails: what a test that passes has printed, nobody reads.
async fn chromedriver() -> (Child, String) {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut driver =
        command.spawn().expect("chromedriver (Debian: chromium-driver); `--skip browser::` leaves browsers out");
    let mut said = BufReader::new(driver.stdout.take().unwrap()).lines();
    while let Some(line) = said.next_line().await.unwrap() {
        if let Some((_, port)) = line.split_once("successfully on port ") {
            let url = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
            // Whatever else it says must have somewhere to go.
            tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
            return (driver, url);
        }
    }
    panic!("chromedriver ended before it listened");
}
