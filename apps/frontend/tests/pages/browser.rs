//! The pages in headless Chromium.

use fantoccini::{Locator, error::CmdError, key::Key};
use serde_json::json;

use crate::scene::{EMAIL, PASSWORD, Scene};

mod driver;
mod real;
mod sight;

use driver::{Browser, browse};

async fn sign_up(browser: &Browser, scene: &Scene) -> Result<(), CmdError> {
    browser.goto(&format!("{}/", scene.url)).await?;
    browser.click("a[href='/signup']").await?;
    browser.fill("#name", "Ada").await?;
    browser.fill("#email", EMAIL).await?;
    browser.fill("#password", PASSWORD).await?;
    browser.click("button[type=submit]").await?;
    browser.see("#sign-out").await?;
    Ok(())
}

/// What the assistant has said last.
const ANSWER: &str = "#messages .message[data-role=assistant]:last-child";

#[tokio::test]
async fn a_person_signs_up_adds_a_task_chats_and_signs_out() {
    let scene = Scene::start().await;
    browse(async |browser| {
        sign_up(browser, &scene).await?;
        browser.fill("#new-task", "Buy milk").await?;
        browser.click("form#add-task button").await?;
        browser.see("ul#tasks li[data-id='t-1'][data-completed=false]").await?;
        // The next one can be typed at once.
        assert_eq!(browser.active_element().await?.attr("id").await?.as_deref(), Some("new-task"));
        browser.click("li[data-id='t-1'] .tick").await?;
        browser.see("li[data-id='t-1'][data-completed=true]").await?;

        // The answer shows while it is made.
        browser.fill("#chat-input", "slowly now").await?;
        browser.click("form#chat button").await?;
        browser.see("#messages .message[data-role=user]").await?;
        scene.backend.words.add_permits(1);
        browser.see(&format!("{ANSWER}[aria-busy=true]")).await?;
        browser.reads(&format!("{ANSWER} p"), "You").await?;
        scene.backend.words.add_permits(3);
        browser.reads(&format!("{ANSWER}:not([aria-busy]) p"), "You said: slowly now").await?;

        // A task that the assistant adds is there without a new page; what is being typed stays.
        browser.fill("#new-task", "half typed").await?;
        browser.fill("#chat-input", &format!("add <b>bread</b>{}", Key::Enter)).await?;
        browser.reads("li[data-id='t-3'] .what a", "<b>bread</b>").await?;
        browser.reads(&format!("{ANSWER}:not([aria-busy]) p"), "I have added “<b>bread</b>”.").await?;
        let typed = browser.find(Locator::Css("#new-task")).await?.prop("value").await?;
        assert_eq!(typed.as_deref(), Some("half typed"));

        // The same conversation goes on, and is there after a reload.
        browser.refresh().await?;
        browser.reads(&format!("{ANSWER} p"), "I have added “<b>bread</b>”.").await?;
        assert_eq!(browser.find_all(Locator::Css("#messages .message")).await?.len(), 4);
        assert_eq!(browser.complaints().await?, Vec::<String>::new());

        // And the browser would have complained.
        browser.execute("document.body.setAttribute('style', 'color: red')", vec![]).await?;
        assert!(browser.complaints().await?.concat().contains("Content Security Policy"));

        browser.click("#sign-out").await?;
        browser.reads("[role=status]", "You have signed out.").await?;
        browser.goto(&format!("{}/", scene.url)).await?;
        browser.see("#password").await?;
        assert_eq!(browser.complaints().await?, Vec::<String>::new());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn without_javascript_everything_works() {
    let scene = Scene::start().await;
    browse(async |browser| {
        browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await?;
        sign_up(browser, &scene).await?;
        browser.fill("#new-task", &format!("Buy milk{}", Key::Enter)).await?;
        browser.see("li[data-id='t-1'][data-completed=false]").await?;
        browser.click("li[data-id='t-1'] .tick").await?;
        browser.see("li[data-id='t-1'][data-completed=true]").await?;
        browser.fill("#chat-input", "add bread").await?;
        browser.click("form#chat button").await?;
        browser.reads(&format!("{ANSWER} p"), "I have added “bread”.").await?;
        browser.reads("li[data-id='t-3'] .what a", "bread").await?;
        // The script would have kept the page.
        assert_eq!(browser.current_url().await?.fragment(), Some("chat-input"));
        browser.click("li[data-id='t-1'] .icon").await?;
        browser.see("ul#tasks:not(:has(li[data-id='t-1']))").await?;
        browser.click("li[data-id='t-3'] .what a").await?;
        browser.fill("#title", " and butter").await?;
        browser.click("button[type=submit]").await?;
        browser.reads("li[data-id='t-3'] .what a", "bread and butter").await?;
        browser.click("#sign-out").await?;
        browser.reads("[role=status]", "You have signed out.").await?;
        Ok(())
    })
    .await;
}

/// Begins a conversation with these words.
async fn begin(browser: &Browser, words: &str) -> Result<(), CmdError> {
    browser.follow("#new-conversation").await?;
    browser.fill("#chat-input", &format!("{words}{}", Key::Enter)).await?;
    browser.reads(&format!("{ANSWER}:not([aria-busy]) p"), &format!("You said: {words}")).await
}

#[tokio::test]
async fn a_new_conversation_stays_in_view_whatever_is_done_beside_it() {
    let scene = Scene::start().await;
    browse(async |browser| {
        sign_up(browser, &scene).await?;
        begin(browser, "first").await?;
        for (words, ways) in [
            ("to add", &["form#add-task button"][..]),
            ("to tick", &["#tasks .tick"]),
            ("to look", &["nav li:last-child a"]),
            ("to edit", &["#tasks .what a", ".actions a"]),
            ("to delete", &["#tasks .icon"]),
        ] {
            begin(browser, words).await?;
            if words == "to add" {
                browser.fill("#new-task", "Buy milk").await?;
            }
            for way in ways {
                browser.follow(way).await?;
            }
            browser.reads(&format!("{ANSWER} p"), &format!("You said: {words}")).await?;
        }
        // What leads elsewhere still does.
        begin(browser, "to look back").await?;
        browser.click("summary").await?;
        browser.follow(".conversations li:last-child a").await?;
        browser.reads(&format!("{ANSWER} p"), "You said: first").await?;
        begin(browser, "to begin anew").await?;
        browser.follow("#new-conversation").await?;
        browser.see("#messages .hello").await?;
        assert_eq!(browser.complaints().await?, Vec::<String>::new());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_goes_on_when_the_tasks_beside_it_cannot_be_shown_anew() {
    let scene = Scene::start().await;
    browse(async |browser| {
        sign_up(browser, &scene).await?;
        // The backend of this page is there for the chat, and away for everything else.
        let script = "const real = window.fetch;
                      window.fetch = (to, how) => how.method ? real(to, how) : Promise.reject(new TypeError('scripted'))";
        browser.execute(script, vec![]).await?;
        browser.fill("#chat-input", &format!("add bread{}", Key::Enter)).await?;
        browser.reads(&format!("{ANSWER}:not([aria-busy]) p"), "I have added “bread”.").await?;
        browser.see("form#chat button:not(:disabled)").await?;
        assert_eq!(browser.find_all(Locator::Css("#messages [role=alert]")).await?.len(), 0);
        let typed = browser.find(Locator::Css("#chat-input")).await?.prop("value").await?;
        assert_eq!(typed.as_deref(), Some(""), "nobody is invited to ask again");
        browser.refresh().await?;
        browser.reads("li .what a", "bread").await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn trouble_in_the_chat_is_told_and_what_was_typed_is_not_lost() {
    let scene = Scene::start().await;
    browse(async |browser| {
        sign_up(browser, &scene).await?;
        scene.backend.world().no_chat = Some((503, "chat_not_configured"));
        browser.fill("#chat-input", &format!("hello{}", Key::Enter)).await?;
        browser.see("#messages [role=alert]").await?;
        let told = browser.find(Locator::Css("#messages [role=alert]")).await?.text().await?;
        assert!(told.starts_with("The chat is not set up on this server"), "{told}");
        let typed = browser.find(Locator::Css("#chat-input")).await?.prop("value").await?;
        assert_eq!(typed.as_deref(), Some("hello"));

        scene.backend.world().no_chat = None;
        browser.fill("#chat-input", &Key::Enter.to_string()).await?;
        browser.reads(&format!("{ANSWER} p"), "You said: hello").await?;

        scene.backend.world().users.clear();
        browser.fill("#chat-input", &format!("hello{}", Key::Enter)).await?;
        browser.reads("[role=status]", "Your session has ended. Please sign in again.").await?;
        Ok(())
    })
    .await;
}
