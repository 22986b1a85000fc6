//! The page itself: tasks, and the chat.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};

use super::{
    Failure, log, page,
    view::{Talk, View},
};
use crate::{
    App,
    backend::{Conversation, Error, Message, Show, Task, Token, User},
    session::SignedIn,
    words,
};

/// What went wrong with what was typed, and what that was: it is not lost.
#[derive(Default)]
pub(crate) struct Mishap {
    pub task_error: String,
    pub title: String,
    pub chat_error: String,
    pub message: String,
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    view: View,
    user: User,
    tasks: Vec<Task>,
    chat: Chat,
    mishap: Mishap,
}

#[derive(Default)]
struct Chat {
    /// None if it has not begun.
    current: Option<Conversation>,
    messages: Vec<Message>,
    others: Vec<Conversation>,
}

pub(crate) async fn show(
    State(app): State<App>,
    SignedIn(token): SignedIn,
    Query(view): Query<View>,
) -> Result<Response, Failure> {
    render(&app, &token, view, StatusCode::OK, Mishap::default()).await
}

/// The page, with what went wrong. Without the chat it is still of use, and then says why.
pub(crate) async fn render(
    app: &App,
    token: &Token,
    view: View,
    status: StatusCode,
    mut mishap: Mishap,
) -> Result<Response, Failure> {
    let backend = &app.backend;
    let (user, tasks, chat) =
        futures::join!(backend.me(token), backend.tasks(token, view.show), chat(app, token, &view.conversation));
    let (user, tasks) = (user?, tasks?);
    let chat = match chat {
        Ok(chat) => chat,
        Err(error) if error.expired() => return Err(Failure::Expired),
        Err(error) => {
            log(&error);
            if mishap.chat_error.is_empty() {
                mishap.chat_error = words::of(&error);
            }
            Chat::default()
        }
    };
    Ok(page(status, &Home { view, user, tasks, chat, mishap }))
}

async fn chat(app: &App, token: &Token, wanted: &Talk) -> Result<Chat, Error> {
    let mut others = app.backend.conversations(token).await?;
    let at = match wanted {
        Talk::New => None,
        Talk::Last => (!others.is_empty()).then_some(0),
        Talk::This(id) => others.iter().position(|conversation| conversation.id == *id),
    };
    let Some(current) = at.map(|at| others.remove(at)) else {
        return Ok(Chat { others, ..Chat::default() });
    };
    let messages = app.backend.messages(token, &current.id).await?;
    Ok(Chat { messages: messages.into_iter().filter(Message::is_for_people).collect(), current: Some(current), others })
}

impl Message {
    fn is_for_people(&self) -> bool {
        matches!(self.role.as_str(), "user" | "assistant") && !self.content.trim().is_empty()
    }
}

/// What the template asks for.
impl Home {
    fn open(&self) -> usize {
        self.tasks.iter().filter(|task| !task.completed).count()
    }

    /// How many tasks there are, in words.
    fn count(&self) -> String {
        let tasks = |count: usize| if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") };
        match (self.view.show, self.tasks.len()) {
            (Show::All, 0) => "Nothing to do yet. Add a task, or ask the assistant to.".to_owned(),
            (Show::Open, 0) => "Everything is done.".to_owned(),
            (Show::Done, 0) => "Nothing is done yet.".to_owned(),
            (Show::All, all) => format!("{}, {} to do", tasks(all), self.open()),
            (Show::Open, open) => format!("{} to do", tasks(open)),
            (Show::Done, done) => format!("{} done", tasks(done)),
        }
    }

    /// Links to the other choices of tasks: words, address, whether it is the current one.
    fn choices(&self) -> [(&'static str, View, bool); 3] {
        [("All", Show::All), ("To do", Show::Open), ("Done", Show::Done)]
            .map(|(words, show)| (words, self.view.showing(show), self.view.show == show))
    }

    fn new_talk(&self) -> View {
        self.view.talking(Talk::New)
    }

    fn talk(&self, conversation: &Conversation) -> View {
        self.view.talking(Talk::This(conversation.id.clone()))
    }
}

impl Conversation {
    fn called(&self) -> &str {
        self.title.as_deref().map(str::trim).filter(|title| !title.is_empty()).unwrap_or("Untitled conversation")
    }
}
