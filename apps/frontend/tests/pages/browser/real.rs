//! With all parts as they are deployed: backend, MCP server and database, and a scripted model. `apps/support/with` starts them.

use fantoccini::key::Key;
use serde_json::json;

use super::{ANSWER, browse, sight::resize};

#[tokio::test]
async fn all_parts_together() {
    let Ok(url) = std::env::var("TODO_URL") else {
        eprintln!("SKIPPED: TODO_URL names no Todo Chatbot; apps/support/with COMMAND starts one");
        return;
    };
    let email = format!("ada.{}@example.org", std::process::id());
    browse(async |browser| {
        resize(browser, 1120, 720).await?;
        browser.goto(&format!("{url}/signup")).await?;
        for (field, text) in [("#name", "Ada"), ("#email", &email), ("#password", "correct horse battery staple")] {
            browser.fill(field, text).await?;
        }
        browser.click("button[type=submit]").await?;
        for title in ["Water the plants", "Call the dentist", "Buy milk"] {
            browser.fill("#new-task", &format!("{title}{}", Key::Enter)).await?;
            browser.see(&format!("#tasks .tick[aria-label='Done: {title}']")).await?;
        }
        browser.click("#tasks .tick[aria-label='Done: Call the dentist']").await?;
        browser.see("#tasks .tick[aria-label='Done: Call the dentist'][aria-checked=true]").await?;

        // The model asks for the tool, the tool writes the row, the page shows it.
        browser.fill("#chat-input", &format!("add a task: Send the invitations{}", Key::Enter)).await?;
        browser.see("#tasks .tick[aria-label='Done: Send the invitations']").await?;
        browser.reads("#messages .deed", "✓ Added a task").await?;
        browser.see(&format!("{ANSWER}:not([aria-busy])")).await?;
        browser.fill("#chat-input", &format!("complete: Water the plants{}", Key::Enter)).await?;
        browser.see("#tasks .tick[aria-label='Done: Water the plants'][aria-checked=true]").await?;
        browser.see("form#chat button:not(:disabled)").await?;
        assert_eq!(browser.complaints().await?, Vec::<String>::new());
        if let Some(picture) = std::env::var_os("TODO_PICTURE") {
            browser.execute("document.activeElement.blur()", vec![]).await?;
            std::fs::write(picture, browser.screenshot().await?).unwrap();
        }

        // Everything is kept: after signing in anew it is there.
        browser.click("#sign-out").await?;
        browser.fill("#email", &email).await?;
        browser.fill("#password", &format!("correct horse battery staple{}", Key::Enter)).await?;
        browser.see("#tasks .tick[aria-label='Done: Send the invitations'][aria-checked=false]").await?;
        let said = browser.execute("return document.querySelectorAll('#messages .message').length", vec![]).await?;
        assert_eq!(said, json!(4));
        // A model that fails is told in words.
        browser.fill("#chat-input", &format!("status 429{}", Key::Enter)).await?;
        browser.reads("#messages .error", "The assistant is busy. Please ask again in a minute.").await?;
        Ok(())
    })
    .await;
}
